"""From an environment's name to a simulator of it that can be planned in.

MuJoCo tasks whose reward is known here, or given     `MujocoSimulator`: a whole plan in one native call
anything else that can be restored                    `SteppingSimulator`: copies stepped in worker processes
jax/<name>                                            is a `Model` already: plan in it by `planners.sampling.plan`
"""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from dm_control.suite.base import Task as SuiteTask
from mujoco import MjModel

from foreplan.core.errors import UsageError
from foreplan.envs import names
from foreplan.envs.base import AdaptedEnv, Env
from foreplan.envs.dm_control import DmAdapter, plain
from foreplan.envs.gymnasium import GymAdapter
from foreplan.sims.mujoco import Mechanism, MujocoSimulator, Task
from foreplan.sims.rewards import gymnasium as gymnasium_rewards
from foreplan.sims.rewards import suite
from foreplan.sims.stepping import SteppingSimulator

PASSIVE = (gymnasium.wrappers.TimeLimit, gymnasium.wrappers.OrderEnforcing, gymnasium.wrappers.PassiveEnvChecker)


def make(
    name: str,
    action_repeat: int | None = None,
    task: Task | None = None,
    threads: int | None = None,
    inexact: bool = False,
    vary: Callable[[MjModel], None] | None = None,
    coarse: int = 1,
) -> MujocoSimulator | SteppingSimulator:
    """A simulator of the environment called `name`, apart from any in which one acts.

    `task` replaces the environment's own reward and end. `threads` is the number of threads or worker processes.
    `inexact` allows a simulator that goes back by repeating the episode's actions, or only nearly. `vary` changes the
    model that is planned with. `coarse` makes the physics' timestep so many times as long: less exact, and faster by as
    much. Raises `UsageError`.
    """
    if name in names.JAX:
        raise UsageError(f"{name} is a model to plan in as it is: envs.names.jax_env({name!r})")
    env = names.build(name, action_repeat)
    env.reset(0)
    if env.exactness != "bitwise" and not inexact:
        env.close()
        raise UsageError(
            f"{name} cannot be rolled back exactly, only by {env.exactness!r}; --inexact (inexact=True) allows it"
        )
    found = mechanism(env)
    if isinstance(env, AdaptedEnv) and found is not None and (task := task or own_task(name, env)):
        return MujocoSimulator(env, found, task, threads, vary, coarse)
    if task is not None or vary is not None or coarse != 1:
        env.close()
        raise UsageError(
            f"{name} is not known to be stepped by MuJoCo alone: its task, model and timestep must be its own"
        )
    warnings.warn(f"{name}: candidates are scored by stepping copies of it, which is slow", stacklevel=2)
    return SteppingSimulator(env, threads)


def mechanism(env: Env) -> Mechanism | None:
    """How the environment steps MuJoCo; None where it is not known to do nothing else."""
    adapter: Any = getattr(env, "adapter", None)
    if getattr(adapter, "physics", None) is None:
        return None
    if isinstance(adapter, DmAdapter):
        task = type(adapter.env.task)
        plain_steps = task.before_step is SuiteTask.before_step and task.after_step is SuiteTask.after_step
        if not (issubclass(task, SuiteTask) and plain_steps):
            return None
        return Mechanism(adapter.env._n_sub_steps, refreshes=adapter.env.physics.legacy_step)
    if isinstance(adapter, GymAdapter):
        layer: Any = adapter.env
        innermost: Any = adapter.env.unwrapped
        while isinstance(layer, PASSIVE):
            layer = layer.env
        if layer is innermost and type(innermost).__module__.startswith("gymnasium.envs.mujoco."):
            return Mechanism(innermost.frame_skip, refreshes=False)
    return None


def own_task(name: str, env: AdaptedEnv) -> Task | None:
    """The environment's own task, where it is written here for many states at once."""
    adapter: Any = env.adapter
    if isinstance(adapter, GymAdapter):
        known = gymnasium_rewards.of(adapter.env.unwrapped)
        return None if known is None else Task(*known)
    rewards = {plain(f"dmc/{known}"): reward for known, reward in suite.REWARDS.items()}
    reward = rewards.get(plain(name))
    return None if reward is None else Task(reward)
