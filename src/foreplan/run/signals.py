"""Ctrl-C and a polite kill: the run ends its turn, saves itself and says how to go on; a second Ctrl-C ends it now."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop and has saved itself. `signal` is the signal's number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class StopSignals:
    """While entered, SIGINT and SIGTERM set `number`. Does nothing outside the main thread, where Python forbids it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
