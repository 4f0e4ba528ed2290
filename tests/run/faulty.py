"""A task whose true model is at hand, and agents that plan in it with one part spoilt."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32

from foreplan.core.model import Model
from foreplan.envs.jax_native import JaxEnv
from foreplan.envs.jax_vector import JaxVectorEnv
from foreplan.planners.acting import act, memories
from foreplan.planners.cem import CEM

DISCOUNT = 0.9
BEYOND = 10  # decisions of the policy that the value counts
GAIN = (0.6, 1.2)  # of the policy, a linear law
PLANNER = CEM(horizon=1, num_samples=64, iterations=3, num_elites=8, min_std=0.01)
FAULTS = ("dynamics", "reward", "value", "planner")


class Sledge(JaxEnv):
    """Push a sledge to the origin, between two walls; pushing is dear, so that to overrate what comes of it costs
    return."""

    obs_names: ClassVar = ("position", "velocity")
    obs_units: ClassVar = ("m", "m/s")
    episode_length: ClassVar = 50
    time_step: ClassVar = 0.4

    def reset(self, key):
        return jax.random.uniform(key, (2,), jnp.float32, minval=-2.0, maxval=2.0)

    def step(self, state, action, key):
        position, velocity = state
        push = jnp.clip(action[0], -1.0, 1.0)
        velocity = 0.95 * velocity + 0.4 * push
        position = jnp.clip(position + self.time_step * velocity, -3.0, 3.0)
        return jnp.stack([position, velocity]), -(state[0] ** 2) - 2.0 * push**2, jnp.ones(())

    def observe(self, state):
        return state

    def lines(self, state):
        return [((float(state[0]), 0.0), (float(state[0]) + 0.1, 0.0), 0.1, (0, 0, 0))]


class Believed(Model):
    """`Sledge` as an agent believes it to be; right in all but the part of which `fault` is the number."""

    fault: Int32[Array, ""]
    discount: float = eqx.field(static=True, default=DISCOUNT)

    def spoilt(self, part, wrong, right):
        return jnp.where(self.fault == FAULTS.index(part), wrong, right)

    def step(self, state, action, key):
        """A spoilt push acts one step later than it does: beyond the horizon."""
        does = self.spoilt("dynamics", jnp.zeros_like(action), action)
        after, _, _ = Sledge().step(state, does, key)
        return after, self.earned(state, action, after, key), jnp.float32(self.discount)

    def earned(self, state, action, after, key):
        """A spoilt reward is what a head says that was fitted to noise."""
        noise = jnp.sin(40.0 * (state[0] + 2.0 * state[1] + 3.0 * action[0]))
        return self.spoilt("reward", noise, Sledge().step(state, action, key)[1])

    def value(self, state, key):
        """Spoilt, it is doubled."""

        def step(carry, _):
            state, total, reached = carry
            after, reward, _ = Sledge().step(state, self.prior(state, key), key)
            return (after, total + reached * reward, reached * self.discount), None

        (_, total, _), _ = jax.lax.scan(step, (state, jnp.zeros(()), jnp.ones(())), length=BEYOND)
        return self.spoilt("value", 2.0 * total, total)

    def prior(self, state, key):
        return jnp.clip(-jnp.array(GAIN, jnp.float32) @ state, -1.0, 1.0)[None]


@dataclass(frozen=True)
class Faulty:
    """Plans in `Believed`; what it has learned is the number of its fault."""

    planner: CEM = PLANNER
    utd: float = 0.0

    @classmethod
    def of(cls, fault):
        """(agent, learner); a planner's fault is that it has 8 candidates."""
        few = replace(PLANNER, num_samples=8, num_elites=2, iterations=1)
        return cls(few if fault == "planner" else PLANNER), jnp.int32(FAULTS.index(fault))

    def seed_steps(self, spec):
        return 0

    def init(self, spec, key):
        return jnp.int32(FAULTS.index("planner"))

    def memory(self, spec):
        return memories(self.planner, spec)

    def look_ahead(self, learner, obs, key):
        return Believed(learner), obs

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(self, learner, timestep, memory, key, explore):
        return act(self.planner, partial(self.look_ahead, learner), timestep, memory, key, explore)

    def learn(self, learner, replay, key, num_updates):
        return learner, {}


def plant(episodes):
    return JaxVectorEnv("faulty:sledge", Sledge(), episodes, 1)
