"""What commands share.

A command is a dataclass: its fields are its options, calling it runs it and returns its result; `of(argv)`, where it
has one, gives the dataclass for a command line, whose options depend on what it names. JAX takes a second to import,
which `--help` need not wait for: so commands import what they need when they are called.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from foreplan import presets
from foreplan.core.errors import unknown
from foreplan.run.settings import Settings

T = TypeVar("T")
Utd = float | Literal["auto"]
Result = dict[str, Any]
Directory = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="end with one line that is a JSON object")]
AgentName = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AGENT", help=", ".join(presets.AGENTS))]


def extended(kind: type[T], fields: Sequence[Any] = (), bases: tuple[type, ...] = (), **options: Any) -> type[T]:
    """A command like `kind` with more options; keeps the module, in which tyro finds the comments on `kind`'s own."""
    namespace = {"__doc__": kind.__doc__, "__module__": kind.__module__} | options.pop("namespace", {})
    return dataclasses.make_dataclass(kind.__name__, fields, bases=(kind, *bases), namespace=namespace, **options)


def with_agent(kind: type[T], argv: Sequence[str]) -> type[T]:
    """A command like `kind`, with the options of the agent that the command line names, if it names one, as `agent`."""
    name = next((word for word in argv if word in presets.AGENTS), None)
    if name is None:
        word = next((word for word in argv if not word.startswith("-")), None)
        if word is not None:
            raise unknown("agent", word, presets.AGENTS)
        return kind
    size = next((value for word, value in itertools.pairwise(argv) if word == "--size"), None)
    agent = presets.preset(name, size)
    return extended(kind, [("agent", type(agent), dataclasses.field(default=agent))])


def display() -> Any:
    from foreplan.run.display import Live, Plain

    return Live() if sys.stdout.isatty() else Plain()


def at_utd(utd: Utd | None, agent: Any, settings: Settings) -> tuple[Any, Settings]:
    """Agent and settings with this UTD ratio; None: the agent's own."""
    if utd == "auto":
        return agent, dataclasses.replace(settings, adapt=dataclasses.replace(settings.adapt, on=True))
    return agent if utd is None else dataclasses.replace(agent, utd=utd), settings


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
