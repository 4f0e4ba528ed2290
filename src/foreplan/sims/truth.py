"""The environment that is acted in, stepped from many of its states at once: what really becomes of actions.

A batch of states is opaque: whoever has it can only go on from it.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.model import Model, Repeated
from foreplan.core.types import VectorEnv
from foreplan.envs.jax_vector import JaxVectorEnv
from foreplan.envs.vector import HostVectorEnv
from foreplan.sims import names
from foreplan.sims.engine import Engine
from foreplan.sims.mujoco import MujocoSimulator
from foreplan.sims.stepping import SteppingSimulator

States = Any  # a batch of true states


class Outcome(NamedTuple):
    """What became of a batch after one decision."""

    states: States
    obs: np.ndarray  # float32 [n, obs]
    reward: np.ndarray  # [n]; minus infinity where the simulation diverged
    going_on: np.ndarray  # [n]; 0 where the episode has terminated


@runtime_checkable
class Truth(Protocol):
    def at(self, index: int, number: int) -> States: ...  # `number` copies of where environment `index` stands
    def step(self, states: States, actions: np.ndarray, obs: np.ndarray) -> Outcome: ...  # `obs` was observed last
    def close(self) -> None: ...


def make(plant: VectorEnv, inexact: bool = False) -> Truth:
    """The truth about `plant`. Raises `UsageError` where it cannot be rolled back, or not exactly and not `inexact`."""
    if isinstance(plant, JaxVectorEnv):
        return JaxTruth(plant)
    if not isinstance(plant, HostVectorEnv):
        raise UsageError(f"{plant.name} gives no snapshot of one environment: it cannot be rolled back to plan in")
    simulator = names.make(plant.name, plant.spec.action_repeat, inexact=inexact)
    if isinstance(simulator, MujocoSimulator) and not isinstance(simulator.engine, Engine):
        simulator = SteppingSimulator(simulator.env, workers=0)  # its contact forces are known step by step only
    return HostTruth(plant, simulator)


class JaxTruth:
    """Of a JAX-native environment; states have leaves [n, ...]. What is random in it is always the same."""

    def __init__(self, plant: JaxVectorEnv) -> None:
        repeat = plant.spec.action_repeat
        model: Model = plant.model if repeat == 1 else Repeated(plant.model, repeat)

        def step(state: Any, action: Any) -> tuple[Any, ...]:
            after, reward, going_on = model.step(state, action, jax.random.key(0))
            return after, plant.model.observe(after), reward, going_on

        self._plant, self._step = plant, jax.jit(jax.vmap(step))

    def at(self, index: int, number: int) -> States:
        return jax.tree.map(lambda x: jnp.broadcast_to(x[index], (number, *x.shape[1:])), self._plant.states)

    def step(self, states: States, actions: np.ndarray, obs: np.ndarray) -> Outcome:
        states, *seen = self._step(states, jnp.asarray(actions))
        return Outcome(states, *(np.asarray(each) for each in seen))

    def close(self) -> None:
        pass


class HostTruth:
    """By a simulator of the host's; states are the simulator's, in the world of the environment asked for last."""

    def __init__(self, plant: HostVectorEnv, simulator: MujocoSimulator | SteppingSimulator) -> None:
        self._plant, self._simulator = plant, simulator

    def at(self, index: int, number: int) -> States:
        return self._simulator.many(self._plant.snapshots()[index], number)

    def step(self, states: States, actions: np.ndarray, obs: np.ndarray) -> Outcome:
        return Outcome(*self._simulator.advance(states, actions, obs))

    def close(self) -> None:
        self._simulator.env.close()
