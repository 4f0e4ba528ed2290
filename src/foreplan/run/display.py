"""What a person sees of a run: a live display on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from foreplan.run.clock import Clock, Pace, Stopwatch


@runtime_checkable
class Display(Protocol):
    """Entered for the time of a run. The records are those of metrics.jsonl and eval.jsonl."""

    def __enter__(self) -> "Display": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, line: str) -> None: ...
    def begin(self, clock: Clock, watch: Stopwatch, steps: int) -> None: ...
    def compiling(self, program: str, seconds: float | None) -> None: ...
    def doing(self, what: str) -> None: ...  # something that stops the clock; "" when it is over
    def logged(self, record: Mapping[str, Any]) -> None: ...
    def evaluated(self, record: Mapping[str, Any]) -> None: ...


class Plain:
    """One line an event, and one now and then while something lasts."""

    AGAIN = 20.0  # seconds

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file or sys.stdout
        self.steps, self.busy, self.told = 0, "", 0.0

    def __enter__(self) -> "Plain":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, line: str) -> None:
        print(line, file=self.file, flush=True)

    def begin(self, clock: Clock, watch: Stopwatch, steps: int) -> None:
        self.steps, self.action_repeat = steps, clock.action_repeat

    def compiling(self, program: str, seconds: float | None) -> None:
        self.say(f"compiling {program} ..." if seconds is None else f"compiled {program} in {seconds:.1f} s")

    def doing(self, what: str) -> None:
        now = time.monotonic()
        if what and (not self.busy or (what != self.busy and now - self.told > self.AGAIN)):
            self.say(f"{what} ...")
            self.told = now
        self.busy = what

    def logged(self, record: Mapping[str, Any]) -> None:
        done = f"{record['env_steps']:,}/{self.steps:,} env steps"
        left = time_left(self.steps - record["env_steps"], record["decisions_per_s"] * self.action_repeat)
        outcome = f"return {record['return']:.1f}  " if "return" in record else ""
        self.say(f"{done}  {outcome}{rates(record)}  {left} left")

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self.say(evaluation(record))


class Live:
    """A few lines at the bottom of the terminal that keep up with the run; what has happened scrolls by above."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.clock: Clock | None = None
        self.program, self.since = "", 0.0  # what is being compiled, and since when
        self.outcome, self.busy = "no episode has ended yet", ""
        self.live = RichLive(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Live":
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def begin(self, clock: Clock, watch: Stopwatch, steps: int) -> None:
        self.clock, self.watch, self.steps, self.pace = clock, watch, steps, Pace(clock, watch)
        self.rates = self.pace.read()

    def compiling(self, program: str, seconds: float | None) -> None:
        self.program, self.since = (program, time.perf_counter()) if seconds is None else ("", 0.0)
        if seconds is not None:
            self.say(f"compiled {program} in {seconds:.1f} s")

    def doing(self, what: str) -> None:
        self.busy = what

    def logged(self, record: Mapping[str, Any]) -> None:
        if "return" in record:
            self.outcome = f"return {record['return']:.1f} in training"
        self.pace.lap()

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self.say(evaluation(record))

    def render(self) -> RenderableType:
        lines: list[RenderableType] = []
        if self.clock:
            clock = self.clock
            self.rates = pace = self.rates if self.program else self.pace.read()
            left = time_left(self.steps - clock.env_steps, pace["decisions_per_s"] * clock.action_repeat)
            bar = Table.grid(expand=True, padding=(0, 1))
            bar.add_row(
                Text(f"{clock.env_steps / self.steps:4.0%}"),
                ProgressBar(total=self.steps, completed=clock.env_steps),
                Text(f"{clock.env_steps:,}/{self.steps:,} env steps, {left} left", no_wrap=True),
            )
            lines = [bar, Text(rates(pace)), Text(f"{self.outcome}; {clock.episodes:,} episodes", style="bold")]
        if self.program:
            seconds = time.perf_counter() - self.since
            lines.append(Text(f"compiling {self.program} ... {seconds:.1f} s", style="yellow"))
        elif self.busy:
            lines.append(Text(f"{self.busy} ...", style="yellow"))
        return Group(*lines)


def rates(pace: Mapping[str, Any]) -> str:
    shares = "  ".join(f"{part} {pace[f'share_{part}']:.0%}" for part in ("act", "env", "learn"))
    return f"{pace['decisions_per_s']:.1f} decisions/s  {pace['updates_per_s']:.1f} updates/s  {shares}"


def evaluation(record: Mapping[str, Any]) -> str:
    returns = np.asarray(record["returns"])
    spread = f"{returns.mean():.1f} ± {returns.std():.1f}"
    return f"evaluation at {record['env_steps']:,} env steps: return {spread} over {len(returns)} episodes"


def time_left(steps: int, rate: float) -> str:
    """`steps` at `rate` steps a second, as 1h02m or 3m04s."""
    if rate <= 0:
        return "?"
    seconds = round(steps / rate)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s"


def to_go(updates: int, rate: float) -> str:
    """`updates`, and how long they take at `rate` a second; 0: not known yet."""
    return f"{updates:,} updates to go" + (f", {time_left(updates, rate)} left" if rate > 0 else "")
