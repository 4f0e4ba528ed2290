"""How an observation of many parts lies in one vector, and whether a vector is one that was promised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """The parts of a flattened observation, in order, and the bounds it was declared to keep; None where there are
    none. `units` has one word an entry where they are known, such as "rad/s", and is empty where they are not."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    low: np.ndarray | None = None  # float32 [obs]
    high: np.ndarray | None = None
    units: tuple[str, ...] = ()

    @classmethod
    def build(cls, parts: Sequence[tuple[str, int]], low: np.ndarray, high: np.ndarray) -> "Layout":
        """From (name, size) of each part; `low` and `high` are float [obs] and may be infinite."""
        bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
        bounds = (np.asarray(low, np.float32), np.asarray(high, np.float32)) if bounded else (None, None)
        return cls(tuple(name for name, _ in parts), tuple(size for _, size in parts), *bounds)

    @classmethod
    def plain(cls, size: int) -> "Layout":
        return cls(("obs",), (size,))

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def field(self, index: int) -> str:
        """The name of one entry of the flattened observation, such as `position[2]`."""
        for name, size in zip(self.names, self.sizes, strict=True):
            if index < size:
                return f"{name}[{index}]"
            index -= size
        raise IndexError(index)

    def fault(self, obs: np.ndarray) -> tuple[int, str, str] | None:
        """(row, field, what is wrong) of the first broken promise in `obs` [env, obs], or None. Cheap where all is
        well: it runs at every step."""
        good = np.isfinite(obs)
        if self.low is not None and self.high is not None:
            good &= (obs >= self.low) & (obs <= self.high)
        if np.count_nonzero(good) == obs.size:
            return None
        row, index = (int(i) for i in np.argwhere(~good)[0])
        why = "is not finite"
        if self.low is not None and self.high is not None and np.isfinite(obs[row, index]):
            why = f"is outside its declared bounds [{self.low[index]:g}, {self.high[index]:g}]"
        return row, f"obs {self.field(index)}", f"{obs[row, index]:g} {why}"
