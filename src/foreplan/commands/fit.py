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

    latent: str | None = None  # a size of tdmpc2: instead of parts, its latent world, by latent consistency; as a run
    updates: int = 20_000  # of a latent world
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
        if self.latent is not None:
            return self.fit_latent(self.latent, out)
        made = fit_parts(self, out, lambda line: print(line, flush=True))
        path = fitted.report(out)
        print(f"report: {path}")
        return {
            "out": str(out),
            "report": str(path),
            "parts": {part.kind: str(out / part.kind) for part in made},
            "scores": {part.kind: part.scores for part in made},
        }

    def fit_latent(self, size: str, out: Path) -> Result:
        from foreplan.insight.report import report
        from foreplan.presets import preset
        from foreplan.run.latent import fit_latent
        from foreplan.run.pretrain import Pretraining, load_data

        assert isinstance(self, Pretraining)  # see `of`
        data = load_data(self.data, print).take(self.episodes, self.every)
        hold_out = self.world.fitting.hold_out
        fit_latent(
            preset("tdmpc2", size), data, self.data, out, updates=self.updates, hold_out=hold_out, seed=self.seed
        )
        path = report(out)
        print(f"report: {path}\nplan in it with: foreplan plan {data.about.env} --model {out}")
        return {"out": str(out), "report": str(path)}
