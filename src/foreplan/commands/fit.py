"""Fit parts to recorded data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreplan.commands.common import Json, Result, extended


@dataclass(frozen=True)
class Fit:
    """Fit dynamics, reward, continuation, value and policy to recorded data, each by itself.

    Then plan with them, `foreplan plan ENV --parts DIR`, or begin a run, `foreplan train pets ENV --parts DIR`.
    """

    out: Path | None = None  # the directory in which each part has its folder; None: runs/fit-DATASET
    json: Json = False

    @staticmethod
    def of(argv: Sequence[str]) -> "type[Fit]":
        """With the options of the fits: the command is a `Pretraining`, too."""
        from foreplan.run.pretrain import Pretraining

        return extended(Fit, bases=(Pretraining,), frozen=True)

    def __call__(self) -> Result:
        from foreplan.insight import fitted
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.pretrain import Pretraining, fit_parts

        assert isinstance(self, Pretraining)  # see `of`
        use_compilation_cache()
        name = self.data.strip("/").removesuffix(".npz").replace("/", "-").replace(":", "-")
        out = self.out or Path("runs") / f"fit-{name}"
        made = fit_parts(self, out, lambda line: print(line, flush=True))
        path = fitted.report(out)
        print(f"report: {path}")
        return {
            "out": str(out),
            "report": str(path),
            "parts": {part.kind: str(out / part.kind) for part in made},
            "scores": {part.kind: part.scores for part in made},
        }
