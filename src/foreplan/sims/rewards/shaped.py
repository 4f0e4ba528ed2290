"""Rewards with a slope where a task's own is flat: for planners that look ahead only a second or two. Each is the
task's own reward and some more; what an episode returns is always counted in the task's own."""

import numpy as np

from foreplan.sims.rewards.shape import tolerance
from foreplan.sims.rewards.suite import REWARDS
from foreplan.sims.state import State


def acrobot_swingup(before: State, action: np.ndarray, after: State) -> np.ndarray:
    """The nearer the energy with which the arms' common centre of mass moves is to that of standing upright the better:
    arms that hang must be pumped up, and what goes into an elbow that spins lifts nothing."""
    upright = 2.0 * -after.model.opt.gravity[2]
    slope = tolerance(acrobot_energy(after), upright, upright, margin=2.0 * upright, at_margin=0.0, decay="linear")
    return REWARDS["acrobot-swingup"](before, action, after) + 0.5 * slope


def acrobot_energy(state: State) -> np.ndarray:
    """Of two arms of 1 kg and 1 m, as if both were in their centre of mass [...] in J, 0 at the height of the shoulder."""
    shoulder, elbow = state.angle("shoulder"), state.angle("shoulder") + state.angle("elbow")
    shoulder_rate, elbow_rate = state.qvel[..., 0], state.qvel[..., 0] + state.qvel[..., 1]
    height = 0.75 * np.cos(shoulder) + 0.25 * np.cos(elbow)
    speed = (0.75 * shoulder_rate) ** 2 + (0.25 * elbow_rate) ** 2  # squared
    speed += 2.0 * 0.75 * 0.25 * shoulder_rate * elbow_rate * np.cos(shoulder - elbow)
    return -2.0 * state.model.opt.gravity[2] * height + speed


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
