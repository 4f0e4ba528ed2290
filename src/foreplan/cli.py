"""The command line. What is wrong with the input is said in one line, and the exit code is 2.

A command is a dataclass: its fields are its options, calling it runs it and returns its result. JAX takes a second to
import, which `--help` need not wait for: so commands import what they need when they are called.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro

from foreplan import presets
from foreplan.core.errors import EnvError, UsageError, unknown
from foreplan.run.settings import Settings
from foreplan.run.signals import Interrupted

T = TypeVar("T")
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
    "report": Report,
    "envs": Envs,
    "check": Check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        import importlib.metadata

        print(importlib.metadata.version("foreplan"))
        return 0
    try:
        return run(argv[0], argv[1:])
    except UsageError as error:
        return fail(error, 2)
    except EnvError as error:
        return fail(error, 1)
    except Interrupted as stop:
        return fail(stop, 128 + stop.signal)
    except KeyboardInterrupt:
        return 130


def run(name: str, argv: Sequence[str]) -> int:
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    kind = {"train": Train.options, "plan": Plan.with_options}.get(name, lambda _: COMMANDS[name])(argv)
    command = parse(kind, argv, f"foreplan {name}")
    result = command()
    if command.json:
        print(json.dumps(result))
    return 0 if result.get("ok", True) else 1


def fail(error: Exception, code: int) -> int:
    print(f"foreplan: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def usage() -> str:
    lines = [f"  {name:<8}{kind.__doc__.splitlines()[0]}" for name, kind in COMMANDS.items()]
    return "\n".join(["usage: foreplan COMMAND [-h] [OPTIONS]", "", "Model-based reinforcement learning.", "", *lines])


# ---------------------------------------------------------------------- one line of error
def parse(kind: type[T], argv: Sequence[str], program: str) -> T:
    """The options on the command line. Raises UsageError, one line, where they cannot be understood."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=list(argv), prog=program)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise UsageError(f"{one_line(complaint.getvalue())} (see {program} --help)") from None


def one_line(boxed: str) -> str:
    """What tyro's box says, without the box: the block below its title, and the names that it suggests."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[│╰╯]", "", boxed)
    plain = re.sub(r"╭─ (.*?) ─*╮", "\\1\n────", plain)
    _, *blocks = [re.sub(r"\s+", " ", block).strip() for block in re.split(r"\n *[─-]{4,} *\n", plain)]
    message = blocks[0] if blocks else "the command line was not understood"
    message = re.sub(r"^Error parsing (settings: )?", "", message)
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number", message)
    message = re.sub(r"could not convert string to float: (.*)", r"\1 is not a number", message)
    suggested = [name for block in blocks[1:] if block.startswith("Perhaps") for name in re.findall(r"--\S+", block)]
    if suggested:
        message += f"; did you mean {' or '.join(suggested[:2])}?"
    return message
