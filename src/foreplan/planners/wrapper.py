"""A planner that holds another one and changes what becomes of its candidates."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wrapper:
    planner: Any

    @property
    def horizon(self) -> int:
        return self.planner.horizon

    @property
    def num_proposals(self) -> int:
        return self.planner.num_proposals

    @property
    def iterations(self) -> int:
        return len(self.populations)

    @property
    def populations(self) -> tuple[int, ...]:
        return self.planner.populations
