"""What actions and observations are called, as far as an environment says so."""

from typing import Any

import numpy as np

from foreplan.core.types import VectorEnv
from foreplan.envs import names
from foreplan.envs.layout import Layout

KNOWN = {  # what libraries do not name themselves
    "jax/pendulum": ("torque",),
    "jax/cartpole-swingup": ("push",),
    "gym/Pendulum": ("torque",),
    "gym/MountainCarContinuous": ("push",),
    "gym/CartPole": ("left", "right"),
    "gym/MountainCar": ("left", "none", "right"),
    "gym/Acrobot": ("negative torque", "none", "positive torque"),
    "gym/LunarLander": ("none", "left engine", "main engine", "right engine"),
}


def action_space(env: VectorEnv) -> dict[str, Any]:
    """{"kind": "discrete" or "continuous", "names": [...]}; continuous actions lie in [-1, 1]."""
    size = env.spec.action_dim
    known = KNOWN.get(env.name.partition("-v")[0], ()) or motors(env)
    named = list(known) if len(known) == size else [f"action {i}" for i in range(size)]
    return {"kind": "discrete" if env.spec.discrete else "continuous", "names": named}


def motors(env: VectorEnv) -> list[str]:
    """The actuators of a MuJoCo environment by name; empty where there are none, or one has none."""
    adapter: Any = next((getattr(host, "adapter", None) for host in names.hosts(env)), None)
    physics = getattr(adapter, "physics", None)
    if physics is None:
        return []
    import mujoco  # by now the environment has done so

    model = physics.model
    joints = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    found = []
    for i in range(model.nu):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, i)
        if name is None and joints[i]:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, model.actuator_trnid[i, 0])
        found.append(name or "")
    return [name.replace("_", " ") for name in found] if all(found) else []


def observations(env: VectorEnv, obs: np.ndarray) -> list[dict[str, Any]]:
    """The parts of an observation [obs]: the name of each, its numbers, and their unit, "" where it is not known."""
    layout = layout_of(env)
    found, start = [], 0
    for name, size in zip(layout.names, layout.sizes, strict=True):
        unit = layout.units[start] if layout.units else ""
        values = obs[start : start + size].tolist()
        found.append({"name": name.replace("_", " "), "values": values, "unit": unit})
        start += size
    return found


def layout_of(env: VectorEnv) -> Layout:
    owners = [env, *names.hosts(env)]
    return next((owner.layout for owner in owners if hasattr(owner, "layout")), Layout.plain(env.spec.obs_shape[0]))
