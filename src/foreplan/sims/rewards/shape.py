"""The one shape that all rewards of dm_control's suite are made of (Tassa et al. 2018, section 2.3)."""

from typing import Literal

import numpy as np

Decay = Literal["gaussian", "linear", "quadratic"]


def tolerance(
    x: np.ndarray, low: float = 0.0, high: float = 0.0, margin: float = 0.0, at_margin: float = 0.1,
    decay: Decay = "gaussian",
) -> np.ndarray:  # fmt: skip
    """1 within [low, high]; outside it falls with the distance, to `at_margin` where that is `margin`, and on to 0."""
    distance = np.maximum(low - x, x - high)
    if margin == 0.0:
        return np.where(distance <= 0.0, 1.0, 0.0)
    distance = np.maximum(distance, 0.0) / margin
    if decay == "gaussian":
        return np.exp(np.log(at_margin) * distance**2)
    slope = 1.0 - at_margin
    return np.maximum(0.0, 1.0 - slope * (distance if decay == "linear" else distance**2))
