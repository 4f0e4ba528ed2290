"""`foreplan diagnose`: where a run loses its return."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from foreplan.commands.common import Directory, Json, Result


@dataclass
class Diagnose:
    """Say where a run loses its return: dynamics, reward, value or planner.

    The run is played on common seeds as it is, by its policy alone, and with part after part of its model exchanged for
    the environment's own.
    """

    dir: Directory
    episodes: int = 2  # one on each seed
    decisions: int = 25  # of each episode that count
    whole: int = 1000  # of an episode, at most, in which what the model foretells is compared with what comes
    beyond: int = 10  # decisions beyond the horizon, where the value is true
    times: int = 10  # how many times larger the oracle's planning budget is
    most: int = 2000  # candidates a decision, which the oracle has at most
    seed: int = 0
    inexact: bool = False  # also where the environment cannot be restored exactly
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None  # None: `diagnosis` in the run's directory
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs import gl

        gl.configure()  # before MuJoCo is imported
        from foreplan.insight import diagnosed
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.diagnose import Diagnosing, diagnose_run
        from foreplan.run.progress import Pulse

        names = [each.name for each in dataclasses.fields(Diagnosing)]
        settings = Diagnosing(**{name: getattr(self, name) for name in names})
        out = self.out or self.dir / "diagnosis"
        use_compilation_cache()
        with Pulse() as pulse:
            measured = diagnose_run(self.dir, settings, lambda line: print(line, flush=True), pulse.tell)
        title = f"Where {self.dir.name} loses its return"
        found = diagnosed.report(out, title, dataclasses.asdict(settings), measured)
        for line in (*found["alarms"], found["verdict"], f"report: {out / 'diagnosis.html'}"):
            print(line)
        return found | {"out": str(out), "report": str(out / "diagnosis.html")}
