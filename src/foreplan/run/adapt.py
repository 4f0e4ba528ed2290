"""The update-to-data ratio, adapted while a run goes on: `--utd auto` (Dorka, Welschehold, Burgard 2023, "Dynamic
Update-to-Data Ratio: Minimizing World Model Overfitting", algorithm 1).

A share of the episodes is never trained on. Now and then the loss on them is divided by the loss on what is trained on:
where this gap has grown, the agent overfits and the ratio falls by a factor; where it has shrunk the ratio rises.

Different from the paper: it is the gap that is compared with the one before, not the loss on held-out data alone, which
for a critic moves with its target; and what is held out stays held out.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated

import tyro

from foreplan.core.errors import UsageError


@dataclass(frozen=True)
class Adapt:
    on: Annotated[bool, tyro.conf.Suppress] = False  # `--utd auto`
    utd_min: float = 0.25  # bounds of an automatic UTD ratio
    utd_max: float = 8.0
    utd_factor: float = 1.3  # by which it changes
    utd_every: int = 500  # decisions between changes
    utd_memory: float = 0.5  # share of the gap before that is kept in what the next is compared with
    hold_out: float = 0.1  # share of the episodes that an automatic UTD ratio is judged by

    def __post_init__(self) -> None:
        if not 0 < self.utd_min <= self.utd_max:
            raise UsageError(f"utd-min is {self.utd_min} and utd-max {self.utd_max}; accepted: 0 < utd-min <= utd-max")
        if self.utd_factor <= 1 or self.utd_every < 1 or not 0 <= self.utd_memory < 1:
            raise UsageError("accepted: utd-factor above 1, utd-every from 1 up, utd-memory from 0 to below 1")
        if not 0 < self.hold_out < 1:
            raise UsageError(f"hold-out is {self.hold_out}; accepted: numbers between 0 and 1")

    def adapted(self, utd: float, gap: float, before: float | None) -> tuple[float, float]:
        """(the next UTD ratio, the gap to compare the next with), from the gap and what to compare it with."""
        if before is None or not isfinite(gap):
            return utd, gap if before is None else before
        changed = utd / self.utd_factor if gap > before else utd * self.utd_factor
        return min(self.utd_max, max(self.utd_min, changed)), self.utd_memory * before + (1 - self.utd_memory) * gap
