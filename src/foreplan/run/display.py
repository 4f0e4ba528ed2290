"""What a person sees of a run: a live display on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from foreplan.run.clock import Clock, Stopwatch


class Display(Protocol):
    def __enter__(self) -> "Display": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, line: str) -> None: ...
    def begin(self, clock: Clock, watch: Stopwatch, steps: int) -> None: ...
    def compiling(self, program: str, seconds: float | None) -> None: ...
    def logged(self, record: Mapping[str, Any]) -> None: ...
    def evaluated(self, record: Mapping[str, Any]) -> None: ...


class Plain:
    """One line an event."""

    def __init__(self, file: Any = None) -> None:
        self.file = file or sys.stdout
        self.steps = 0

    def __enter__(self) -> "Plain":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, line: str) -> None:
        print(line, file=self.file, flush=True)

    def begin(self, clock: Clock, watch: Stopwatch, steps: int) -> None:
        self.steps = steps

    def compiling(self, program: str, seconds: float | None) -> None:
        if seconds is not None:
            self.say(f"compiled {program} in {seconds:.1f} s")

    def logged(self, record: Mapping[str, Any]) -> None:
        self.say(f"{record['env_steps']:,}/{self.steps:,} environment steps  {summary(record)}")

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self.say(evaluation(record))


def summary(record: Mapping[str, Any]) -> str:
    shares = "  ".join(f"{part} {record[f'share_{part}']:.0%}" for part in ("act", "env", "learn"))
    words = f"{record['decisions_per_s']:.1f} decisions/s  {record['updates_per_s']:.1f} updates/s  {shares}"
    return f"{words}  return {record['return']:.1f}" if "return" in record else words


def evaluation(record: Mapping[str, Any]) -> str:
    returns = np.asarray(record["returns"])
    spread = f"{returns.mean():.1f} ± {returns.std():.1f}"
    return f"evaluation at {record['env_steps']:,} environment steps: return {spread} over {len(returns)} episodes"
