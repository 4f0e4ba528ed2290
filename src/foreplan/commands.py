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
from foreplan.data_command import Data
from foreplan.label.command import Label
from foreplan.run.settings import Planning, Settings

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
    expert: str | None = None  # of dagger: plan, a run directory, package.module:callable
    incumbent: Path | None = None  # a run that the new one must beat in the end to be accepted
    confidence: float = 0.95  # with which it must be better
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
        from foreplan import guard
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.loop import train

        agent = self.agent or presets.preset(self.name)  # which raises: only an unknown name leaves it None
        if self.utd is not None:
            agent = dataclasses.replace(agent, utd=self.utd)
        if self.expert is not None:
            if not hasattr(agent, "expert"):
                raise UsageError(f"{self.name} asks no expert; dagger does")
            agent = dataclasses.replace(agent, expert=self.expert)
        if getattr(agent, "offline", False):  # acting adds nothing to what it learns
            if self.settings.warm.demos is None:
                raise UsageError(f"{self.name} learns from demonstrations alone: name some with --demos")
            self.settings = dataclasses.replace(self.settings, steps=1)
        place = f"{self.name}-{self.settings.env}-s{self.settings.seed}".replace("/", "-").replace(":", "-")
        use_compilation_cache()
        out = self.out or Path("runs") / place
        if self.incumbent is None:
            return finish(train(agent, self.settings, out, name=self.name, display=display()))
        guard.check(self.incumbent, self.confidence)
        answer = finish(train(agent, self.settings, out, name=self.name, display=display()))
        judgement = guard.guard(out, self.incumbent, max(20, self.settings.eval_episodes), self.confidence)
        print(judgement)
        return answer | {"accepted": judgement.accepted}


@dataclass
class Sweep:
    """Train an agent at several UTD ratios and seeds, a few runs at a time, and compare them.

    Called again, it continues what was interrupted.
    """

    name: AgentName
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]  # its seed is the first
    utd: tuple[float, ...] = (1.0,)
    seeds: int = 1  # runs of each
    jobs: int = 1  # runs at a time
    size: str | None = None  # of the agent
    out: Path | None = None  # None: runs/sweep-AGENT-ENV
    json: Json = False

    def __call__(self) -> Result:
        from rich.live import Live

        from foreplan.insight.compare import compare
        from foreplan.run.settings import at_least
        from foreplan.run.sweep import Cell, results, sweep, table

        at_least("seeds", self.seeds, 1)
        agent = presets.preset(self.name, self.size)
        out = self.out or Path("runs") / f"sweep-{self.name}-{self.settings.env}".replace("/", "-").replace(":", "-")
        cells = [
            Cell(
                f"{utd:g}",
                dataclasses.replace(agent, utd=utd),
                dataclasses.replace(self.settings, seed=self.settings.seed + i),
                out / f"utd{utd:g}-s{self.settings.seed + i}",
            )
            for utd in self.utd
            for i in range(self.seeds)
        ]
        with Live(get_renderable=lambda: table(cells, "UTD"), refresh_per_second=1) as live:
            failed = sweep(cells, self.jobs, self.name, live.refresh if sys.stdout.isatty() else lambda: None)
        done = [cell.out for cell in cells if cell not in failed]
        report = str(compare(done, out)) if done else None
        print(
            f"report: {report}" if done else "no run is finished; see the .log files", f"in {out}" if not done else ""
        )
        return {"ok": not failed, "out": str(out), "report": report, "runs": results(cells)}


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
    """Look ahead in the true environment, or in a model that was learned, and act in the true one.

    `foreplan plan ENV --planner NAME --help` lists the options of that planner.
    """

    settings: Annotated[Planning, tyro.conf.OmitArgPrefixes]
    planner: str | None = None  # by name; None: what is known to be good for the task, or the run's own
    out: Path | None = None  # a directory for what was planned; None: runs/plan-PLANNER-ENV-sSEED
    json: Json = False
    options: ClassVar[Any] = None  # of the planner: a field where it is known
    chosen: ClassVar[Any]  # the `planners.named.Tuned` that it is one of

    @staticmethod
    def with_options(argv: Sequence[str]) -> "type[Plan]":
        """The options of `plan` with those of the planner that the command line asks for."""
        chosen = choose(argv)
        fields = [("options", type(chosen.planner), dataclasses.field(default=chosen.planner))]
        namespace = {"__doc__": Plan.__doc__, "chosen": chosen}
        return dataclasses.make_dataclass("Plan", fields, bases=(Plan,), namespace=namespace)

    def __call__(self) -> Result:
        from foreplan.envs import gl

        gl.configure()  # before MuJoCo is imported
        from foreplan.insight import planned
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.planning import plan_episodes, rollouts
        from foreplan.run.progress import Pulse

        name, settings = self.chosen.name, self.settings
        if settings.model == "sim":
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


def choose(argv: Sequence[str]) -> Any:
    """The `planners.named.Tuned` that the command line asks for: a planner by name, or that of the run whose model is
    planned in, or what is known to be good for the task."""
    from foreplan.planners.named import Tuned

    said = {word: value for word, value in itertools.pairwise(argv) if word in ("--planner", "--model")}
    if "--planner" in said:
        return Tuned(said["--planner"], presets.planner(said["--planner"]))
    if said.get("--model", "sim") != "sim":
        from foreplan.run.settings import read_config

        own = getattr(read_config(Path(said["--model"]))[0], "planner", None)
        if own is not None:
            return Tuned(type(own).__name__.lower(), own)
    return presets.tuned(argv)


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
    """Check that an environment keeps its contract, and that a reward written for it is its own."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    reward: str | None = None  # module:function of (before, action, after), compared on transitions of random actions
    terminated: str | None = None  # module:function of the same
    transitions: int = 2000  # to compare on
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs import names
        from foreplan.envs.contract import Report, check
        from foreplan.run.settings import at_least

        at_least("transitions", self.transitions, 1)
        given = {"reward": self.reward, "terminated": self.terminated}
        functions = {kind: names.factory(name, kind) for kind, name in given.items() if name is not None}
        report = check(self.env)
        if functions:
            from foreplan.sims.agreement import agreement

            agreed = agreement(self.env, transitions=self.transitions, **functions)
            report = Report(report.env, report.verdict, (*report.findings, *agreed))
        for finding in report.findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}  {finding.detail}".rstrip())
        print(f"rollback: {report.verdict}")
        if not report.ok:
            broken = ", ".join(finding.name for finding in report.findings if not finding.ok)
            print(f"{self.env} breaks its contract: {broken}")
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
    "sweep": Sweep,
    "resume": Resume,
    "eval": Eval,
    "plan": Plan,
    "import": Import,
    "report": Report,
    "label": Label,
    "envs": Envs,
    "check": Check,
    "data": Data,
}
