"""What candidates do in a simulator, and what they return."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from foreplan.core.spec import Snapshot


class Rollout(NamedTuple):
    """What candidates earn: rewards and discounts of every decision, and the worth of where they end."""

    rewards: np.ndarray  # [n, horizon]; the first is minus infinity where the simulation diverged
    discounts: np.ndarray  # [n, horizon]; 0 where the episode has terminated
    values: np.ndarray  # [n]
    violations: np.ndarray  # [n]: environment steps in states that are not allowed; their price is in the rewards

    @property
    def returns(self) -> np.ndarray:
        """[n]: G = sum_{t<H} discount_t R_t + discount_H V, with discount_t the product of the discounts before t."""
        reached = np.cumprod(self.discounts, axis=1)
        earlier = np.concatenate([np.ones_like(reached[:, :1]), reached[:, :-1]], axis=1)
        return np.sum(earlier * self.rewards, axis=1) + reached[:, -1] * self.values


def scorer(
    simulators: Any, snapshot: Snapshot, risk: Callable[[np.ndarray], Any] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """actions [n, horizon, action] -> returns [n] from `snapshot`: what a planner asks for.

    `simulators` is one, or several of the same environment, such as with other masses and frictions; `risk` (see
    `planners.risk`) then makes one number of what a plan returns in each.
    """
    if risk is None:
        return lambda actions: simulators.rollout(snapshot, actions).returns
    return lambda actions: np.asarray(
        risk(np.array([each.rollout(snapshot, actions).returns for each in simulators], np.float32))
    )
