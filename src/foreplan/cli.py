"""The command line. What is wrong with the input is said in one line, and the exit code is 2."""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from foreplan.commands.data import Data
from foreplan.commands.diagnose import Diagnose
from foreplan.commands.environments import Check, Envs
from foreplan.commands.fit import Fit
from foreplan.commands.label import Label
from foreplan.commands.plan import Plan
from foreplan.commands.runs import Eval, Import, Report
from foreplan.commands.sweep import Sweep
from foreplan.commands.train import Resume, Train
from foreplan.core.errors import Diverged, EnvError, UsageError, unknown
from foreplan.core.machine import keep_memory
from foreplan.envs import gl
from foreplan.run.signals import Interrupted

T = TypeVar("T")
COMMANDS: dict[str, Any] = {
    "train": Train,
    "sweep": Sweep,
    "resume": Resume,
    "eval": Eval,
    "plan": Plan,
    "fit": Fit,
    "diagnose": Diagnose,
    "import": Import,
    "report": Report,
    "label": Label,
    "envs": Envs,
    "check": Check,
    "data": Data,
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
    except (EnvError, Diverged) as error:
        return fail(error, 1)
    except Interrupted as stop:
        return fail(stop, 128 + stop.signal)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(name: str, argv: Sequence[str]) -> int:
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    gl.configure()  # before MuJoCo is imported
    keep_memory()
    kind = COMMANDS[name]
    command = parse(kind.of(argv) if hasattr(kind, "of") else kind, argv, f"foreplan {name}")
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
            config = (tyro.conf.AvoidSubcommands,)  # of several kinds of planner, the one that the preset has
            return tyro.cli(kind, args=list(argv), prog=program, config=config)
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
    message = re.sub(
        r"no type matching (\S+) could be instantiated from \['?(.*?)'?\]\. Got errors.*", _neither, message
    )
    suggested = [name for block in blocks[1:] if block.startswith("Perhaps") for name in re.findall(r"--\S+", block)]
    if suggested:
        message += f"; did you mean {' or '.join(suggested[:2])}?"
    return message


def _neither(found: re.Match[str]) -> str:
    kinds = [kind for kind in found[1].replace("{", "").replace("}", "").split("|") if kind != "None"]
    return f"{found[2]} is not accepted; accepted: {' or '.join(kinds)}"
