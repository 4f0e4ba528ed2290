"""Experts that need no learning, written down."""

import numpy as np


def steer(obs: np.ndarray) -> float:
    """Brings the point of `toys.Walk` to rest at 0."""
    position, velocity = obs
    return float(np.clip(-2.0 * position - 4.0 * velocity, -1.0, 1.0))


def balance(obs: np.ndarray) -> int:
    """Keeps the pole of CartPole-v1 upright for all 500 steps, and the cart near the middle."""
    position, speed, angle, spin = obs
    return int(angle + 0.5 * spin + 0.1 * speed + 0.02 * position > 0.0)
