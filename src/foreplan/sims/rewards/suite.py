"""The rewards of dm_control's tasks, for any number of states at once.

Each is a function of (state before, action, state after), as a user's is. Tasks of models that MuJoCo integrates by
Runge-Kutta (acrobot, cartpole) are written in joint angles, which a rollout records exactly as they are after a step.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import mujoco
import numpy as np

from foreplan.sims.rewards.shape import tolerance
from foreplan.sims.state import State

Reward = Callable[[State, np.ndarray, State], np.ndarray]
INF = float("inf")


def acrobot(_: State, action: np.ndarray, after: State, margin: float) -> np.ndarray:
    """Bring the tip of two arms, each 1 m long and hung at a height of 2 m, to the target above."""
    shoulder, elbow = after.angle("shoulder"), after.angle("shoulder") + after.angle("elbow")
    hinge, target = after.model.body("upper_arm").pos, after.model.site("target")
    x = hinge[0] + np.sin(shoulder) + np.sin(elbow) - target.pos[0]
    z = hinge[2] + np.cos(shoulder) + np.cos(elbow) - target.pos[2]
    return tolerance(np.hypot(x, z), high=target.size[0], margin=margin)


def ball_in_cup(_: State, action: np.ndarray, after: State) -> np.ndarray:
    """1 where the ball lies within the cup."""
    offset = np.abs(after.site("target") - after.body("ball"))
    room = after.model.site("target").size - after.model.geom("ball").size[0]
    return ((offset[..., 0] < room[0]) & (offset[..., 2] < room[2])).astype(float)


def pole_up(state: State) -> np.ndarray:
    """Cosine of each pole's angle from upright, [..., poles]: a pole's hinge turns it against the one below."""
    return np.cos(np.cumsum(state.qpos[..., 1:], axis=-1))


def cartpole(_: State, action: np.ndarray, after: State) -> np.ndarray:
    """Poles upright and slow, the cart in the middle, the motor idle."""
    centred = 0.5 + 0.5 * tolerance(after.qpos[..., 0], margin=2.0)
    gentle = 0.8 + 0.2 * tolerance(after.ctrl[..., 0], margin=1.0, at_margin=0.0, decay="quadratic")
    slow = 0.5 + 0.5 * np.min(tolerance(after.qvel[..., 1:], margin=5.0), axis=-1)
    return np.mean(0.5 + 0.5 * pole_up(after), axis=-1) * centred * gentle * slow


def cartpole_sparse(_: State, action: np.ndarray, after: State) -> np.ndarray:
    inside = tolerance(after.qpos[..., 0], -0.25, 0.25)
    return inside * np.prod(tolerance(pole_up(after), 0.995, 1.0), axis=-1)


def cheetah(_: State, action: np.ndarray, after: State) -> np.ndarray:
    speed = after.sensor("torso_subtreelinvel")[..., 0]
    return tolerance(speed, 10.0, INF, margin=10.0, at_margin=0.0, decay="linear")


def dog(_: State, action: np.ndarray, after: State, speed: float | None) -> np.ndarray:
    """Stand as high and as upright as the model does at rest, with one's weight on the feet; walk, trot or run."""
    heights, weight = dog_at_rest(after.model)
    total = np.ones(())
    for body, height in zip(("torso", "pelvis"), heights, strict=True):
        total = total * tolerance(after.body(body)[..., 2], height, INF, margin=height)
    level = np.cos(np.deg2rad(30.0))
    for body in ("skull", "torso", "pelvis"):
        total = total * tolerance(after.up(body), level, INF, margin=level + 1.0, at_margin=0.0, decay="linear")
    touch = sum(after.sensor(name)[..., 0] for name in ("palm_L", "palm_R", "sole_L", "sole_R"))
    total = total * tolerance(np.asarray(touch), weight, INF, margin=weight, at_margin=0.9, decay="linear")
    if speed is None:
        return total
    forward = np.sum(after.sensor("torso_linvel") * after.rotation("torso")[..., :, 0], axis=-1)
    moving = tolerance(forward, speed, 2 * speed, margin=max(1.0, speed), at_margin=0.0, decay="linear")
    return total * (0.2 + 0.8 * moving)


@lru_cache(maxsize=4)
def dog_at_rest(model: mujoco.MjModel) -> tuple[tuple[float, float], float]:
    """(nine tenths of the heights of torso and pelvis in m, weight in N) in the model's default pose."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    torso, pelvis = (0.9 * data.body(name).xpos[2] for name in ("torso", "pelvis"))
    return (torso, pelvis), -model.opt.gravity[2] * model.body("torso").subtreemass[0]


def finger_spin(_: State, action: np.ndarray, after: State) -> np.ndarray:
    return (after.sensor("hinge_velocity")[..., 0] <= -15.0).astype(float)


def finger_turn(_: State, action: np.ndarray, after: State) -> np.ndarray:
    offset = after.sensor("target") - after.sensor("tip")
    return (np.hypot(offset[..., 0], offset[..., 2]) <= after.model.site("target").size[0]).astype(float)


def fish_swim(_: State, action: np.ndarray, after: State) -> np.ndarray:
    distance = np.linalg.norm(after.geom("target") - after.geom("mouth"), axis=-1)
    radii = after.model.geom("mouth").size[0] + after.model.geom("target").size[0]
    return (7.0 * tolerance(distance, high=radii, margin=2.0 * radii) + 0.5 * (after.up("torso") + 1.0)) / 8.0


def hopper(_: State, action: np.ndarray, after: State, hop: bool) -> np.ndarray:
    height = after.mass_centre("torso")[..., 2] - after.mass_centre("foot")[..., 2]
    standing = tolerance(height, 0.6, 2.0)
    if not hop:
        return standing * gentle(after)
    speed = after.sensor("torso_subtreelinvel")[..., 0]
    return standing * tolerance(speed, 2.0, INF, margin=1.0, at_margin=0.5, decay="linear")


def gentle(after: State) -> np.ndarray:
    """1 where all motors are idle, 0.8 where all push with their full strength."""
    return 0.8 + 0.2 * np.mean(tolerance(after.ctrl, margin=1.0, at_margin=0.0, decay="quadratic"), axis=-1)


def humanoid(_: State, action: np.ndarray, after: State, speed: float | None) -> np.ndarray:
    standing = tolerance(after.body("head")[..., 2], 1.4, INF, margin=0.35)
    upright = tolerance(after.up("torso"), 0.9, INF, margin=1.9, at_margin=0.0, decay="linear")
    velocity = after.sensor("torso_subtreelinvel")[..., :2]
    if speed is None:
        still = np.mean(tolerance(velocity, margin=2.0), axis=-1)
        return standing * upright * gentle(after) * still
    fast = np.hypot(velocity[..., 0], velocity[..., 1])
    moving = tolerance(fast, speed, INF, margin=speed, at_margin=0.0, decay="linear")
    return standing * upright * gentle(after) * (5.0 * moving + 1.0) / 6.0


def pendulum(_: State, action: np.ndarray, after: State) -> np.ndarray:
    return tolerance(after.up("pole"), np.cos(np.deg2rad(8.0)), 1.0)


def quadruped(_: State, action: np.ndarray, after: State, speed: float) -> np.ndarray:
    forward = after.sensor("velocimeter")[..., 0]
    upright = tolerance(after.up("torso"), 1.0, INF, margin=2.0, at_margin=0.0, decay="linear")
    return upright * tolerance(forward, speed, INF, margin=speed, at_margin=0.5, decay="linear")


def reacher(_: State, action: np.ndarray, after: State) -> np.ndarray:
    offset = after.geom("target") - after.geom("finger")
    radii = after.model.geom("target").size[0] + after.model.geom("finger").size[0]
    return tolerance(np.hypot(offset[..., 0], offset[..., 1]), high=radii)


def walker(_: State, action: np.ndarray, after: State, speed: float | None) -> np.ndarray:
    standing = tolerance(after.body("torso")[..., 2], 1.2, INF, margin=0.6)
    posture = (3.0 * standing + 0.5 * (1.0 + after.up("torso"))) / 4.0
    if speed is None:
        return posture
    forward = after.sensor("torso_subtreelinvel")[..., 0]
    moving = tolerance(forward, speed, INF, margin=speed / 2.0, at_margin=0.5, decay="linear")
    return posture * (5.0 * moving + 1.0) / 6.0


REWARDS: dict[str, Reward] = {
    "acrobot-swingup": partial(acrobot, margin=1.0),
    "acrobot-swingup_sparse": partial(acrobot, margin=0.0),
    "ball_in_cup-catch": ball_in_cup,
    **dict.fromkeys(("cartpole-balance", "cartpole-swingup", "cartpole-two_poles", "cartpole-three_poles"), cartpole),
    **dict.fromkeys(("cartpole-balance_sparse", "cartpole-swingup_sparse"), cartpole_sparse),
    "cheetah-run": cheetah,
    **{
        f"dog-{gait}": partial(dog, speed=v)
        for gait, v in {"stand": None, "walk": 1.0, "trot": 3.0, "run": 9.0}.items()
    },
    "finger-spin": finger_spin,
    **dict.fromkeys(("finger-turn_easy", "finger-turn_hard"), finger_turn),
    "fish-swim": fish_swim,
    "hopper-hop": partial(hopper, hop=True),
    "hopper-stand": partial(hopper, hop=False),
    **{f"humanoid-{gait}": partial(humanoid, speed=v) for gait, v in {"stand": None, "walk": 1.0, "run": 10.0}.items()},
    "pendulum-swingup": pendulum,
    **{f"quadruped-{gait}": partial(quadruped, speed=v) for gait, v in {"walk": 0.5, "run": 5.0}.items()},
    **dict.fromkeys(("reacher-easy", "reacher-hard"), reacher),
    **{f"walker-{gait}": partial(walker, speed=v) for gait, v in {"stand": None, "walk": 1.0, "run": 8.0}.items()},
}
