"""Rewards with a slope where a task's own is flat: for planners that look ahead only a second or two. Each is the
task's own reward and some more; what an episode returns is always counted in the task's own."""

import numpy as np

from foreplan.sims.rewards.shape import tolerance
from foreplan.sims.rewards.suite import REWARDS
from foreplan.sims.state import State


def finger_spin(before: State, action: np.ndarray, after: State) -> np.ndarray:
    """The faster the better, up to somewhat more than is asked for."""
    speed = -after.sensor("hinge_velocity")[..., 0]
    return REWARDS["finger-spin"](before, action, after) + np.clip(speed, -20.0, 20.0) / 20.0


def hopper_stand(before: State, action: np.ndarray, after: State) -> np.ndarray:
    """The higher the torso above the foot the better, also while lying."""
    height = after.mass_centre("torso")[..., 2] - after.mass_centre("foot")[..., 2]
    slope = tolerance(height, 0.6, 2.0, margin=1.5, at_margin=0.0, decay="linear")
    return REWARDS["hopper-stand"](before, action, after) + 0.5 * slope


def humanoid_stand(before: State, action: np.ndarray, after: State) -> np.ndarray:
    """The higher the head the better."""
    slope = tolerance(after.body("head")[..., 2], 1.4, float("inf"), margin=1.4, at_margin=0.0, decay="linear")
    return REWARDS["humanoid-stand"](before, action, after) + 0.3 * slope
