"""What candidates return in a simulator, as planners ask for it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from foreplan.core.spec import Snapshot


def scorer(simulator: Any, snapshot: Snapshot) -> Callable[[np.ndarray], np.ndarray]:
    """actions [n, horizon, action] -> returns [n] (or [members, n]), from `snapshot`."""
    return partial(returns, simulator, snapshot)


def returns(simulator: Any, snapshot: Snapshot, actions: np.ndarray) -> np.ndarray:
    """G = sum_{t<H} discount_t R_t + discount_H V, with discount_t the product of the discounts before t."""
    rewards, discounts, values = simulator.rollout(snapshot, actions)
    reached = np.cumprod(discounts, axis=-1)
    earlier = np.concatenate([np.ones_like(reached[..., :1]), reached[..., :-1]], axis=-1)
    return np.sum(earlier * rewards, axis=-1) + reached[..., -1] * values
