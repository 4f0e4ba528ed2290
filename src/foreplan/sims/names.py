"""From an environment to a simulator of it that can be planned in."""

from foreplan.envs import names
from foreplan.envs.base import AdaptedEnv
from foreplan.sims.mujoco import Function, MujocoSimulator
from foreplan.sims.rewards import suite


def make(
    name: str,
    action_repeat: int | None = None,
    reward: Function | None = None,
    terminated: Function | None = None,
    threads: int | None = None,
) -> MujocoSimulator:
    """A simulator of the environment called `name`, apart from any in which one acts."""
    env = names.build(name, action_repeat)
    assert isinstance(env, AdaptedEnv)
    reward = reward or suite.REWARDS[name.removeprefix("dmc/")]
    control_env = env.adapter.env  # type: ignore[attr-defined]
    return MujocoSimulator(env, control_env._n_sub_steps, control_env.physics.legacy_step, reward, terminated, threads)
