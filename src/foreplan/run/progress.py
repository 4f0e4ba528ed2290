"""What a person sees while episodes are planned: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from foreplan.run.display import time_left


class Pulse:
    """Says how far an episode is, at most every `every` seconds. The first decision, which waits for compilation, does
    not count towards the rate."""

    def __init__(self, file: IO[str] | None = None, every: float | None = None) -> None:
        self.file = file or sys.stdout
        self.terminal = self.file.isatty()
        self.every = (0.2 if self.terminal else 10.0) if every is None else every
        columns = BarColumn(), TextColumn("{task.description}")
        self.bar = Progress(*columns, console=Console(file=self.file), disable=not self.terminal, transient=True)
        self.task = self.bar.add_task("compiling ...", total=None)
        self.began = self.told = time.perf_counter()

    def __enter__(self) -> "Pulse":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def tell(self, episode: int, value: float, decisions: int, length: int | None) -> None:
        """The return so far, after so many decisions of `length`, None where that is not known."""
        now = time.perf_counter()
        if decisions == 1:
            self.began = now
        ended = decisions == length
        if now - self.told < self.every and not ended:
            return
        self.told = now
        rate = (decisions - 1) / max(now - self.began, 1e-9)
        whole = f"/{length}" if length else ""
        left = f", {time_left(length - decisions, rate)} left" if length and not ended else ""
        news = f"episode {episode}: return {value:.1f} after {decisions}{whole} decisions, {rate:.1f}/s{left}"
        if self.terminal:
            self.bar.update(self.task, total=length, completed=decisions, description=news)
        else:
            print(news, file=self.file, flush=True)
