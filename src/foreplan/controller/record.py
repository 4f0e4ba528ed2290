"""What was decided, how fast and by what."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Source = Literal["planned", "shifted", "policy", "safe"]


@dataclass
class Record:
    """What was decided: seconds from the question to the answer, decisions since the plan was improved, and whose
    answer it was; one entry a decision. `planning` has the seconds of every plan, `rounds` how many each had."""

    deadline: float  # seconds
    latency: list[float] = field(default_factory=list)
    age: list[int] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def note(self, latency: float, age: int, source: Source) -> None:
        self.latency.append(latency)
        self.age.append(age)
        self.source.append(source)

    def summary(self) -> dict[str, Any]:
        """Latencies in ms; `missed` counts answers that came after the deadline."""
        latency = np.array(self.latency)
        return {
            "decisions": len(latency),
            "deadline_ms": self.deadline * 1e3,
            "missed": int(np.sum(latency > self.deadline)),
            "latency_ms": milliseconds(self.latency),
            "planning_ms": milliseconds(self.planning),
            "plan_age": {f"p{q}": float(np.percentile(self.age, q)) for q in (50, 95, 99)} | {"max": max(self.age)},
            "rounds": dict(sorted(Counter(self.rounds).items())),
            "sources": dict(Counter(self.source)),
        }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median, tail and worst."""
    ms = 1e3 * np.array(seconds or [0.0])
    return {f"p{q}": float(np.percentile(ms, q)) for q in (50, 95, 99)} | {"max": float(ms.max())}
