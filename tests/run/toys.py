"""A small environment and a small agent, fast and deterministic, for tests of everything around them."""

import time
from dataclasses import dataclass, field, replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from foreplan.core.errors import EnvError, RenderUnavailable
from foreplan.core.learning import repeat_updates
from foreplan.core.spec import Spec
from foreplan.run.display import Plain


class Walk:
    """A point on a line that is to stay near 0: obs (position, velocity), reward -position^2; it ends beyond 3."""

    name = "toys:walk"
    spec = Spec(obs_shape=(2,), action_dim=1, action_repeat=2, episode_length=25, terminates=True)
    exactness = "bitwise"

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.state, self.time = self.rng.uniform(-1, 1, 2), 0
        return self.state.astype(np.float32)

    def step(self, action):
        position, velocity = self.state
        velocity = 0.9 * velocity + 0.3 * float(action[0]) + 0.05 * self.rng.normal()
        self.state = np.array([position + velocity, velocity])
        self.time += 1
        gone = abs(self.state[0]) > 3
        return self.state.astype(np.float32), -float(position**2), bool(gone), self.time >= 25 and not gone

    def snapshot(self):
        return {"state": self.state.copy(), "time": self.time, "rng": self.rng.bit_generator.state}

    def restore(self, snapshot):
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = snapshot["rng"]
        self.state, self.time = np.array(snapshot["state"]), snapshot["time"]

    def render(self):
        frame = np.zeros((48, 64, 3), np.uint8)
        column = int(np.clip((self.state[0] + 3) / 6 * 63, 0, 63))
        frame[:, column] = 255
        return frame

    def close(self):
        pass


class Breaks(Walk):
    """Raises at its 130th decision, once."""

    name = "toys:breaks"
    total = 0

    def step(self, action):
        Breaks.total += 1
        if Breaks.total == 130:
            raise EnvError(self.name, 0, self.time, "step", "the motor is on fire")
        return super().step(action)


class Slow(Walk):
    name = "toys:slow"

    def step(self, action):
        time.sleep(0.002)
        return super().step(action)


class Blind(Walk):
    name = "toys:blind"

    def render(self):
        raise RenderUnavailable("no OpenGL here")


walk, breaks, slow, blind = Walk, Breaks, Slow, Blind


class ToyLearner(eqx.Module):
    gain: Float32[Array, "action obs"]
    updates: Float32[Array, ""]


@dataclass(frozen=True)
class Nested:
    rate: float = 1e-2


@dataclass(frozen=True)
class Toy:
    """Acts by a linear law with a memory of its last action; learns by fitting the reward, of all things."""

    nested: Nested = field(default_factory=Nested)
    batch_size: int = 8
    horizon: int = 2
    utd: float = 1.0
    random_decisions: int = 20

    def init(self, spec, key):
        return ToyLearner(jax.random.normal(key, (spec.action_dim, *spec.obs_shape)), jnp.zeros(()))

    def memory(self, spec):
        return jnp.zeros((spec.num_envs, spec.action_dim))

    def seed_steps(self, spec):
        return self.random_decisions

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(self, learner, timestep, memory, key, explore):
        memory = jnp.where(timestep.first[:, None], 0.0, memory)
        action = 0.5 * memory + timestep.obs @ learner.gain.T
        action = action + (0.3 * jax.random.normal(key, action.shape) if explore else 0.0)
        action = jnp.clip(action, -1, 1)
        return action, action, {"effort": jnp.mean(jnp.abs(action))}

    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner, replay, key, num_updates):
        return repeat_updates(
            self.update, learner, replay, key, num_updates=num_updates, batch_size=self.batch_size, horizon=self.horizon
        )

    def update(self, learner, window, key):
        def loss(gain):
            return jnp.mean((jnp.sum(window.obs[:, 0] @ gain.T, -1) - window.reward[:, 0]) ** 2)

        value, gradient = jax.value_and_grad(loss)(learner.gain)
        gain = learner.gain - self.nested.rate * gradient + 1e-3 * jax.random.normal(key, learner.gain.shape)
        return replace(learner, gain=gain, updates=learner.updates + 1), {"loss": value}

    def imagine(self, learner, obs, actions):
        return {"reward": jnp.sum(obs @ learner.gain.T) + jnp.zeros(actions.shape[0])}


@dataclass(frozen=True)
class Noting(Toy):
    """Has the buffer keep what it saw, doubled; and now and then forgets its law for the number of stored steps."""

    def extras(self, spec):
        return {"doubled": jnp.zeros((spec.num_envs, *spec.obs_shape))}

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(self, learner, timestep, memory, key, explore):
        action, memory, notes = Toy.act(self, learner, timestep, memory, key, explore)
        return action, memory, notes | {"doubled": 2.0 * timestep.obs}

    def refit_every(self, spec):
        return 30

    def refit(self, learner, replay, key):
        return _refit(learner, replay, key)


@jax.jit
def _refit(learner, replay, key):
    gain = 1e-3 * replay.size.astype(jnp.float32) + 0.01 * jax.random.normal(key, learner.gain.shape)
    return replace(learner, gain=gain), {"refits_at": replay.size}


SIZES = {"small": Toy(), "large": Toy(batch_size=64)}


class Listening(Plain):
    """A display that keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)
