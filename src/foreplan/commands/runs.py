"""What can be done with a run that is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from foreplan.commands.common import Directory, Json, Result, film
from foreplan.core.errors import UsageError, unknown


@dataclass
class Eval:
    """Evaluate a run's newest whole checkpoint, without exploration."""

    dir: Directory
    episodes: int = 10
    seed: int = 0  # of the evaluation: its environments are never those of training
    video: bool = False  # also film an episode
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.saved import Saved

        use_compilation_cache()
        saved = Saved.open(self.dir, print)
        result = saved.evaluate(self.episodes, self.seed)
        for episode, (value, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
            print(f"episode {episode}: return {value:.2f}, {length} decisions")
        print(f"mean return {result.mean:.2f} of a policy trained for {saved.env_steps:,} environment steps")
        answer = result.record() | {"trained_env_steps": saved.env_steps}
        return answer | ({"video": str(saved.film(self.seed).video)} if self.video else {})


@dataclass
class Report:
    """Write report.html for a run, or compare several runs."""

    dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR...")]
    out: Path | None = None  # None: the run's directory, or for several runs ./comparison
    video: bool = True  # film an episode of the newest checkpoint, where the environment can be drawn
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.insight.compare import compare
        from foreplan.insight.report import report
        from foreplan.run.cache import use_compilation_cache

        use_compilation_cache()
        if not self.dirs:
            raise UsageError("report needs at least one run directory")
        if len(self.dirs) == 1:
            if self.video:
                film(self.dirs[0])
            path = report(self.dirs[0])
        else:
            path = compare(self.dirs, self.out or Path("comparison"))
        print(path)
        return {"report": str(path)}


@dataclass
class Import:
    """Turn a checkpoint of the authors' TD-MPC2 into a run directory.

    Nothing in the file is executed. Then `eval`, `report` or `plan --model` it, or train on with `resume`.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="tdmpc2")]
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    env: str  # that it was trained for, such as dmc/walker-walk
    out: Path | None = None  # the run directory; None: runs/FILE's name
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.imported import import_tdmpc2

        if self.name != "tdmpc2":
            raise unknown("kind of checkpoint", self.name, ["tdmpc2"])
        use_compilation_cache()
        out = import_tdmpc2(self.file, self.env, self.out or Path("runs") / self.file.stem)
        print(f"{out}: see it with: foreplan eval {out}")
        return {"out": str(out)}
