"""Many runs of one agent, a few at a time, each in a process of its own; what was interrupted is continued."""

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from foreplan.core.errors import UsageError
from foreplan.core.machine import cores
from foreplan.core.types import Agent
from foreplan.run import checkpoint
from foreplan.run.settings import Settings, check_agent


@dataclass
class Cell:
    """One run of a sweep: what is varied, and where it is written."""

    label: str
    agent: Agent
    settings: Settings
    out: Path
    process: BaseProcess | None = None

    @property
    def finished(self) -> bool:
        saved = checkpoint.all_checkpoints(self.out / checkpoint.FOLDER)
        return bool(saved) and int(saved[-1].name.removeprefix("step-")) >= self.settings.steps

    @property
    def state(self) -> str:
        if self.finished:
            return "done"
        if self.process is None:
            return "waiting"
        code = self.process.exitcode
        return "running" if code is None else f"failed ({code})"

    def row(self) -> list[str]:
        """Label, seed, environment steps, share of them, last return, state."""
        steps = last(self.out / "metrics.jsonl").get("env_steps", 0)
        returns = last(self.out / "eval.jsonl").get("returns")
        latest, share = f"{np.mean(returns):.1f}" if returns else "-", f"{steps / self.settings.steps:.0%}"
        return [self.label, str(self.settings.seed), f"{steps:,}", share, latest, self.state]


def sweep(cells: Sequence[Cell], jobs: int, name: str, show: Callable[[], None]) -> list[Cell]:
    """Run what is not finished, `jobs` at a time; returns the cells that failed. `show` is called twice a second."""
    for cell in cells:
        check_agent(cell.agent, cell.settings)
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}; accepted: whole numbers from 1 up")
    spawn = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    threads = max(1, cores() // jobs)
    waiting = [cell for cell in cells if not cell.finished]
    running: list[Cell] = []
    try:
        while waiting or running:
            running = [cell for cell in running if cell.process is not None and cell.process.is_alive()]
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                cell.process = spawn.Process(target=work, args=(cell.agent, cell.settings, cell.out, name, threads))
                cell.process.start()
                running.append(cell)
            show()
            time.sleep(0.5)
    finally:
        for cell in running:
            if cell.process is not None and cell.process.is_alive():
                cell.process.terminate()  # upon which it saves
        for cell in running:
            if cell.process is not None:
                cell.process.join()
    show()
    return [cell for cell in cells if not cell.finished]


def work(agent: Agent, settings: Settings, out: Path, name: str, threads: int) -> None:
    """What a worker does: begin or continue one run, and write what it says beside it."""
    os.environ.setdefault("NPROC", str(threads))  # XLA's; more of them than cores would wait for each other
    from foreplan.run.cache import use_compilation_cache
    from foreplan.run.loop import resume, train

    use_compilation_cache()
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        out.with_name(f"{out.name}.log").open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        if (out / "config.json").is_file():
            resume(out, steps=settings.steps)
        else:
            train(agent, settings, out, name=name)


def table(cells: Sequence[Cell], varied: str) -> Table:
    """The state of all runs, within 80 columns."""
    grid = Table(box=None, pad_edge=False)
    for column in (varied, "seed", "env steps", "", "return", "state"):
        grid.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
    for cell in cells:
        grid.add_row(*cell.row())
    return grid


def results(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One record a run: label, seed, directory, and its last evaluation."""
    return [
        {
            "label": cell.label,
            "seed": cell.settings.seed,
            "out": str(cell.out),
            "returns": last(cell.out / "eval.jsonl").get("returns", []),
        }
        for cell in cells
    ]


def last(path: Path) -> dict[str, Any]:
    """The last whole line of a .jsonl file; nothing where there is none."""
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else {}
