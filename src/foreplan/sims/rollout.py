"""What candidates do in a simulator, and what they return."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from foreplan.core.spec import Snapshot


class Rollout(NamedTuple):
    """What candidates earn: rewards and discounts of every decision, and the worth of where they end."""

    rewards: np.ndarray  # [n, horizon]; minus infinity where the simulation diverged
    discounts: np.ndarray  # [n, horizon]; 0 where the episode has terminated
    values: np.ndarray  # [n]


def scorer(simulator: Any, snapshot: Snapshot) -> Callable[[np.ndarray], np.ndarray]:
    """actions [n, horizon, action] -> returns [n], from `snapshot`: what a planner asks for."""
    return partial(returns, simulator, snapshot)


def returns(simulator: Any, snapshot: Snapshot, actions: np.ndarray) -> np.ndarray:
    """G = sum_{t<H} discount_t R_t + discount_H V, with discount_t the product of the discounts before t."""
    rewards, discounts, values = simulator.rollout(snapshot, actions)
    reached = np.cumprod(discounts, axis=-1)
    earlier = np.concatenate([np.ones_like(reached[..., :1]), reached[..., :-1]], axis=-1)
    return np.sum(earlier * rewards, axis=-1) + reached[..., -1] * values
