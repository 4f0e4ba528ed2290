"""Rewards and ends of Gymnasium's MuJoCo tasks, version 5, for any number of states at once.

Each builder takes the environment, whose weights and ranges it reads, and gives (reward, terminated): functions of
(state before, action, state after), as a user's are. `terminated` is None where episodes only run out of time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from foreplan.sims.state import State

Function = Callable[[State, np.ndarray, State], np.ndarray]
Task = tuple[Function, Function | None]


def effort(after: State) -> np.ndarray:
    return np.sum(np.square(after.ctrl), axis=-1)


def within(x: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (bounds[0] < x) & (x < bounds[1])


def runner(env: Any) -> Task:
    """HalfCheetah and Swimmer: be fast."""

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        speed = (after.qpos[..., 0] - before.qpos[..., 0]) / env.dt
        return env._forward_reward_weight * speed - env._ctrl_cost_weight * effort(after)

    return reward, None


def biped(env: Any) -> Task:
    """Hopper and Walker2d: be fast and do not fall."""

    def healthy(after: State) -> np.ndarray:
        fine = within(after.qpos[..., 1], env._healthy_z_range) & within(after.qpos[..., 2], env._healthy_angle_range)
        if hasattr(env, "_healthy_state_range"):
            rest = np.concatenate([after.qpos[..., 2:], after.qvel], axis=-1)
            fine = fine & np.all(within(rest, env._healthy_state_range), axis=-1)
        return fine

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return runner(env)[0](before, action, after) + env._healthy_reward * healthy(after)

    def terminated(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return env._terminate_when_unhealthy & ~healthy(after)

    return reward, terminated


def ant(env: Any) -> Task:
    def healthy(after: State) -> np.ndarray:
        finite = np.isfinite(after.qpos).all(axis=-1) & np.isfinite(after.qvel).all(axis=-1)
        low, high = env._healthy_z_range
        return finite & (low <= after.qpos[..., 2]) & (after.qpos[..., 2] <= high)

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        torso = env.model.body(env._main_body).id
        speed = (after.xpos[..., torso, 0] - before.xpos[..., torso, 0]) / env.dt
        forces = np.sum(np.square(np.clip(after.cfrc_ext, *env._contact_force_range)), axis=(-1, -2))
        cost = env._ctrl_cost_weight * effort(after) + env._contact_cost_weight * forces
        return env._forward_reward_weight * speed + env._healthy_reward * healthy(after) - cost

    def terminated(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return env._terminate_when_unhealthy & ~healthy(after)

    return reward, terminated


def humanoid(env: Any) -> Task:
    def healthy(after: State) -> np.ndarray:
        return within(after.qpos[..., 2], env._healthy_z_range)

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        mass = env.model.body_mass / np.sum(env.model.body_mass)
        speed = (after.xipos[..., 0] - before.xipos[..., 0]) @ mass / env.dt
        forces = env._contact_cost_weight * np.sum(np.square(after.cfrc_ext), axis=(-1, -2))
        cost = env._ctrl_cost_weight * effort(after) + np.clip(forces, *env._contact_cost_range)
        return env._forward_reward_weight * speed + env._healthy_reward * healthy(after) - cost

    def terminated(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return env._terminate_when_unhealthy & ~healthy(after)

    return reward, terminated


def humanoid_standup(env: Any) -> Task:
    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        forces = env._impact_cost_weight * np.sum(np.square(after.cfrc_ext), axis=(-1, -2))
        cost = env._ctrl_cost_weight * effort(after) + np.clip(forces, *env._impact_cost_range)
        return after.qpos[..., 2] / env.model.opt.timestep - cost + 1.0

    return reward, None


def inverted_pendulum(env: Any) -> Task:
    def terminated(before: State, action: np.ndarray, after: State) -> np.ndarray:
        finite = np.isfinite(after.qpos).all(axis=-1) & np.isfinite(after.qvel).all(axis=-1)
        return ~finite | (np.abs(after.qpos[..., 1]) > 0.2)

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return 1.0 - terminated(before, action, after)

    return reward, terminated


def inverted_double_pendulum(env: Any) -> Task:
    def terminated(before: State, action: np.ndarray, after: State) -> np.ndarray:
        return after.site_xpos[..., 0, 2] <= 1.0

    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        x, height = after.site_xpos[..., 0, 0], after.site_xpos[..., 0, 2]
        speeds = 1e-3 * after.qvel[..., 1] ** 2 + 5e-3 * after.qvel[..., 2] ** 2
        alive = env._healthy_reward * ~terminated(before, action, after)
        return alive - 0.01 * x**2 - (height - 2.0) ** 2 - speeds

    return reward, terminated


def reacher(env: Any) -> Task:
    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        distance = np.linalg.norm(after.body("fingertip") - after.body("target"), axis=-1)
        return -env._reward_dist_weight * distance - env._reward_control_weight * effort(after)

    return reward, None


def pusher(env: Any) -> Task:
    def reward(before: State, action: np.ndarray, after: State) -> np.ndarray:
        near = np.linalg.norm(after.body("object") - after.body("tips_arm"), axis=-1)
        far = np.linalg.norm(after.body("object") - after.body("goal"), axis=-1)
        cost = env._reward_near_weight * near + env._reward_dist_weight * far
        return -cost - env._reward_control_weight * effort(after)

    return reward, None


BUILDERS: dict[str, Callable[[Any], Task]] = {  # by the name of the environment's class
    "AntEnv": ant,
    "HalfCheetahEnv": runner,
    "HopperEnv": biped,
    "HumanoidEnv": humanoid,
    "HumanoidStandupEnv": humanoid_standup,
    "InvertedDoublePendulumEnv": inverted_double_pendulum,
    "InvertedPendulumEnv": inverted_pendulum,
    "PusherEnv": pusher,
    "ReacherEnv": reacher,
    "SwimmerEnv": runner,
    "Walker2dEnv": biped,
}


def of(env: Any) -> Task | None:
    """The task of an unwrapped environment; None where it is not one of Gymnasium's own, version 5."""
    kind = type(env)
    if kind.__module__.startswith("gymnasium.envs.mujoco.") and kind.__module__.endswith("_v5"):
        return BUILDERS[kind.__name__](env)
    return None
