"""What a run counts: turns, updates, episodes, what is due, and where its time goes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Clock:
    """The counters of a run. A turn is one decision in each of the environments."""

    num_envs: int
    action_repeat: int
    utd: float = 0.0  # gradient updates a decision, at present
    turns: int = 0
    updates: int = 0
    episodes: int = 0
    changed: int = 0  # decisions at which the UTD last changed
    granted: float = 0.0  # updates until then
    gap: float | None = None  # of the losses, see `run.adapt`
    done: dict[str, int] = field(default_factory=dict)  # environment step at which each task was last done

    @property
    def decisions(self) -> int:
        return self.turns * self.num_envs

    @property
    def env_steps(self) -> int:
        """Environment steps: decisions x action repeat, summed over the environments."""
        return self.decisions * self.action_repeat

    @property
    def asked(self) -> float:
        """Gradient updates that the UTD has asked for."""
        return self.granted + self.utd * (self.decisions - self.changed)

    @property
    def owed(self) -> int:
        """Of those, what was not made yet."""
        return int(self.asked + 1e-9) - self.updates

    def change_utd(self, utd: float) -> None:
        """From now on; what was owed before stays owed."""
        self.granted, self.changed, self.utd = self.asked, self.decisions, utd

    def due(self, task: str, every: int, finished: bool = False) -> bool:
        """Whether a multiple of `every` environment steps was passed since `task` was done, or the run has finished."""
        last = self.done.get(task, 0)
        return self.env_steps // every > last // every or (finished and self.env_steps > last)

    def did(self, task: str) -> None:
        self.done[task] = self.env_steps

    def snapshot(self) -> dict[str, Any]:
        return asdict(self)


class Stopwatch:
    """Wall seconds of the run, in all and by part; they go on counting when a run is resumed.

    The first call of a compiled program counts as `compile`, and is announced: `announce(program, None)` before,
    `announce(program, seconds)` after.
    """

    def __init__(self, announce: Callable[[str, float | None], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._announce = announce or (lambda program, seconds: None)
        self._begin = time.perf_counter()
        self._seen: set[str] = set()

    @contextmanager
    def __call__(self, part: str, program: str | None = None) -> Iterator[None]:
        fresh = program is not None and program not in self._seen
        if program is not None and fresh:
            self._seen.add(program)
            self._announce(program, None)
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            part = "compile" if fresh else part
            self.seconds[part] = self.seconds.get(part, 0.0) + spent
        if program is not None and fresh:
            self._announce(program, spent)

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._begin

    def snapshot(self) -> dict[str, Any]:
        return {"wall": self.wall, "seconds": dict(self.seconds)}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._begin = time.perf_counter() - snapshot["wall"]
        self.seconds = dict(snapshot["seconds"])


class Pace:
    """Rates since the last lap, compilation, evaluation and saving apart, which are no part of training's speed."""

    APART = ("compile", "evaluate", "save")

    def __init__(self, clock: Clock, watch: Stopwatch) -> None:
        self.clock, self.watch = clock, watch
        self._last = self._now()

    def _now(self) -> dict[str, float]:
        seconds = self.watch.seconds
        return {
            "decisions": float(self.clock.decisions),
            "updates": float(self.clock.updates),
            "run": self.watch.wall - sum(seconds.get(part, 0.0) for part in self.APART),
            **{part: seconds.get(part, 0.0) for part in ("act", "env", "learn")},
        }

    def read(self) -> dict[str, float]:
        """Decisions and updates a second, the shares of time, and the seconds of compilation so far."""
        now = self._now()
        spent = {name: now[name] - self._last[name] for name in now}
        run = max(spent.pop("run"), 1e-9)
        return {
            "decisions_per_s": spent["decisions"] / run,
            "updates_per_s": spent["updates"] / run,
            **{f"share_{part}": spent[part] / run for part in ("act", "env", "learn")},
            "compile_s": self.watch.seconds.get("compile", 0.0),
        }

    def lap(self) -> dict[str, float]:
        rates = self.read()
        self._last = self._now()
        return rates
