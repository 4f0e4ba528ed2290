"""What each command of the command line does.

A command is a dataclass: its fields are its options, calling it runs it and returns its result. JAX takes a second to
import, which `--help` need not wait for: so commands import what they need when they are called.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from foreplan import presets
from foreplan.core.errors import UsageError, unknown
from foreplan.run.settings import Settings

Result = dict[str, Any]
Directory = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="end with one line that is a JSON object")]
AgentName = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AGENT", help=", ".join(presets.AGENTS))]


@dataclass
class Train:
    """Train an agent and write a run directory.

    `foreplan train AGENT ENV --help` also lists the agent's own options.
    """

    name: AgentName
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]
    size: str | None = None  # of the agent; None: its first, made for a CPU
    out: Path | None = None  # the run directory; None: runs/AGENT-ENV-sSEED
    utd: float | None = None  # gradient updates a decision; None: the agent's
    json: Json = False
    agent: ClassVar[Any] = None  # a field where the agent is known, see `options`

    @staticmethod
    def options(argv: Sequence[str]) -> "type[Train]":
        """The options of `train` with those of the agent that the command line names, if it names one."""
        name = next((word for word in argv if word in presets.AGENTS), None)
        if name is None:
            word = next((word for word in argv if not word.startswith("-")), None)
            if word is not None:
                raise unknown("agent", word, presets.AGENTS)
            return Train
        size = next((value for word, value in itertools.pairwise(argv) if word == "--size"), None)
        agent = presets.preset(name, size)
        fields = [("agent", type(agent), dataclasses.field(default=agent))]
        return dataclasses.make_dataclass("Train", fields, bases=(Train,), namespace={"__doc__": Train.__doc__})

    def __call__(self) -> Result:
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.loop import train

        agent = self.agent or presets.preset(self.name)  # which raises: only an unknown name leaves it None
        if self.utd is not None:
            agent = dataclasses.replace(agent, utd=self.utd)
        place = f"{self.name}-{self.settings.env}-s{self.settings.seed}".replace("/", "-").replace(":", "-")
        use_compilation_cache()
        out = self.out or Path("runs") / place
        return finish(train(agent, self.settings, out, name=self.name, display=display()))


@dataclass
class Resume:
    """Continue a run from its newest whole checkpoint."""

    dir: Directory
    steps: int | None = None  # environment steps in all; None: as the run was begun
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.loop import resume

        use_compilation_cache()
        return finish(resume(self.dir, steps=self.steps, display=display()))


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
class Plan:
    """Plan in the true environment, rolled back after every look ahead; nothing is learned.

    `foreplan plan ENV --planner NAME --help` lists the options of another planner than icem.
    """

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    planner: str = "icem"
    episodes: int = 1
    seed: int = 0
    action_repeat: int | None = None  # environment steps a decision; None: the environment's default
    json: Json = False
    options: ClassVar[Any] = None  # a field where the planner is known

    @staticmethod
    def with_options(argv: Sequence[str]) -> "type[Plan]":
        """The options of `plan` with those of the planner that the command line names."""
        named = [value for word, value in itertools.pairwise(argv) if word == "--planner"]
        made = presets.planner(named[-1] if named else "icem")()
        fields = [("options", type(made), dataclasses.field(default=made))]
        return dataclasses.make_dataclass("Plan", fields, bases=(Plan,), namespace={"__doc__": Plan.__doc__})

    def __call__(self) -> Result:
        from foreplan.envs import gl, names

        gl.configure()  # before MuJoCo is imported
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.planning import plan_episodes
        from foreplan.run.settings import at_least, refuse_non_finite

        at_least("episodes", self.episodes, 1)
        at_least("seed", self.seed, 0)
        names.validate(self.env)
        refuse_non_finite(self.options, "options")
        use_compilation_cache()
        print(f"planning with {self.planner}; the first decisions wait for compilation ...", flush=True)

        def each(episode: int, value: float, decisions: int) -> None:
            if decisions % 100 == 0:
                print(f"episode {episode}: return {value:.1f} after {decisions} decisions", flush=True)

        result = plan_episodes(self.env, self.options, self.episodes, self.seed, self.action_repeat, each)
        print(f"mean return {result.mean:.2f} over {self.episodes} episodes, {result.seconds:.0f} s")
        return result.record() | {"planner": self.planner}


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
class Envs:
    """List the environments that can be acted in here."""

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT", help="only names that contain it")] = ""
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs.names import available

        names = [name for name in available() if self.text in name]
        print(*names, "or package.module:factory, your own", sep="\n")
        return {"envs": names}


@dataclass
class Check:
    """Check that an environment keeps its contract."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs.contract import check

        report = check(self.env)
        for finding in report.findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}  {finding.detail}".rstrip())
        print(f"{self.env}: snapshots are {report.verdict}" if report.ok else f"{self.env} breaks its contract")
        return report.json()


def display() -> Any:
    from foreplan.run.display import Live, Plain

    return Live() if sys.stdout.isatty() else Plain()


def film(out: Path) -> None:
    """Play one episode of the newest policy and film it, or say why it cannot be drawn."""
    from foreplan.run.saved import Saved

    made = Saved.open(out).film()
    print(f"video: {made.video}" if made.video else f"no video: {made.why}")


def finish(out: Path) -> Result:
    """The end of a run that is complete: film, report, and the last evaluation as its result."""
    from foreplan.insight.report import report

    film(out)
    path = report(out)
    print(f"report: {path}")
    last = json.loads((out / "eval.jsonl").read_text().splitlines()[-1])
    mean = sum(last["returns"]) / len(last["returns"])
    return {
        "out": str(out),
        "report": str(path),
        "env_steps": last["env_steps"],
        "returns": last["returns"],
        "mean": mean,
        "seconds": last["wall_s"],
    }


COMMANDS: dict[str, Any] = {
    "train": Train,
    "resume": Resume,
    "eval": Eval,
    "plan": Plan,
    "import": Import,
    "report": Report,
    "envs": Envs,
    "check": Check,
}
