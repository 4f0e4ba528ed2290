"""`foreplan diagnose`: where a run loses its return."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from foreplan.commands.common import Directory, Json, Result
from foreplan.run.settings import Diagnosing


@dataclass
class Diagnose:
    """Say where a run loses its return: dynamics, reward, value or planner.

    The run is played on common seeds as it is, by its policy alone, and with part after part of its model exchanged for
    the environment's own.
    """

    dir: Directory
    settings: Annotated[Diagnosing, tyro.conf.OmitArgPrefixes] = field(default_factory=Diagnosing)
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None  # None: `diagnosis` in the run's directory
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.insight import diagnosed
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.camera import write_video
        from foreplan.run.diagnose import diagnose_run
        from foreplan.run.progress import Pulse

        out = self.out or self.dir / "diagnosis"
        use_compilation_cache()
        with Pulse() as pulse:
            measured = diagnose_run(self.dir, self.settings, lambda line: print(line, flush=True), pulse.tell)
        if measured.frames:
            write_video(out / diagnosed.FILM, measured.frames, fps=15)
        title = f"Where {self.dir.name} loses its return"
        found = diagnosed.report(out, title, dataclasses.asdict(self.settings), measured)
        for line in (*found["alarms"], found["verdict"], f"report: {out / 'diagnosis.html'}"):
            print(line)
        return found | {"out": str(out), "report": str(out / "diagnosis.html")}
