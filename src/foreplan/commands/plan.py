"""Plan without learning."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from foreplan import presets
from foreplan.commands.common import Json, Result, extended
from foreplan.run.settings import Planning


@dataclass
class Plan:
    """Look ahead in the true environment, a model that was learned, or parts of both; act in the true one.

    `foreplan plan ENV --planner NAME --help` lists the options of that planner.
    """

    settings: Annotated[Planning, tyro.conf.OmitArgPrefixes]
    planner: str | None = None  # by name; None: what is known to be good for the task, or the run's own
    out: Path | None = None  # a directory for what was planned; None: runs/plan-PLANNER-ENV-sSEED
    json: Json = False
    options: ClassVar[Any] = None  # of the planner: a field where it is known
    chosen: ClassVar[Any]  # the `planners.named.Tuned` that it is one of

    @staticmethod
    def of(argv: Sequence[str]) -> "type[Plan]":
        """The options of `plan` with those of the planner that the command line asks for."""
        chosen = choose(argv)
        fields = [("options", type(chosen.planner), dataclasses.field(default=chosen.planner))]
        return extended(Plan, fields, namespace={"chosen": chosen})

    def __call__(self) -> Result:
        from foreplan.insight import planned
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.planning import plan_episodes, rollouts
        from foreplan.run.progress import Pulse

        name, settings = self.chosen.name, self.settings
        if settings.model == "sim" and not (settings.parts or settings.dynamics):
            settings = settings.with_defaults(self.chosen.action_repeat, self.chosen.reward)
        place = f"plan-{name}-{settings.env}-s{settings.seed}".replace("/", "-").replace(":", "-")
        out = self.out or Path("runs") / place
        use_compilation_cache()
        goal = "" if settings.reward is None else f" for {settings.reward}"
        print(f"planning with {name}{goal}; the first decision waits for compilation ...", flush=True)
        with Pulse() as pulse:
            result = plan_episodes(settings, self.options, out, pulse.tell, print)
        print(f"mean return {result.mean:.2f} over {settings.episodes} episodes, {result.seconds:.0f} s")
        path = planned.report(out, name)
        print(f"report: {path}")
        return result.record() | {
            "planner": name,
            "model": settings.model,
            "rollouts": rollouts(self.options, result),
            "out": str(out),
            "report": str(path),
        }


PARTS = ("--parts", "--dynamics", "--policy")


def choose(argv: Sequence[str]) -> Any:
    """The `planners.named.Tuned` that the command line asks for: a planner by name, or that of the run whose model is
    planned in, or one that stays close to behaviour where that is given, or what is known to be good for the task."""
    from foreplan.planners.named import Tuned

    said = {word: value for word, value in itertools.pairwise(argv) if word in ("--planner", "--model", *PARTS)}
    if "--planner" in said:
        return Tuned(said["--planner"], presets.planner(said["--planner"]))
    if said.get("--model", "sim") != "sim":
        from foreplan.run.settings import read_config

        own = getattr(read_config(Path(said["--model"]))[0], "planner", None)
        if own is not None:
            return Tuned(type(own).__name__.lower(), own)
    parts = Path(said["--parts"]) if "--parts" in said else None
    behaviour = "--policy" in said or (parts is not None and (parts / "policy").is_dir())
    if behaviour and (parts is not None or "--dynamics" in said):
        return Tuned("mbop", presets.planner("mbop"))
    return presets.tuned(argv)
