"""The vector environment over a JAX-native one: one compiled, vmapped program a step, NumPy at the border."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import EnvError, UsageError
from foreplan.core.types import Exactness, Snapshot, Spec, TimeStep
from foreplan.envs.jax_native import JaxEnv, draw
from foreplan.envs.layout import Layout
from foreplan.envs.vector import begun, check_actions, first_step


class Running(NamedTuple):
    """Where one environment stands."""

    state: Any
    steps: Int32[Array, ""]  # environment steps into the episode
    episode: Int32[Array, ""]
    key: PRNGKeyArray  # of this environment; with `episode` and `steps` it decides all that is random


class Outcome(NamedTuple):
    """What one environment says after a step."""

    obs: Float32[Array, "obs"]
    reward: Float32[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class JaxVectorEnv:
    """`send` starts the step and returns at once; `recv` waits for it."""

    exactness: Exactness = "bitwise"

    def __init__(self, name: str, model: JaxEnv, num_envs: int, action_repeat: int, height: int = 240) -> None:
        self.name, self.model, self._height = name, model, height
        self.spec = Spec(
            obs_shape=(len(model.obs_names),),
            action_dim=model.action_dim,
            num_envs=num_envs,
            action_repeat=action_repeat,
            episode_length=-(-model.episode_length // action_repeat),
            terminates=model.terminates,
        )
        self.layout = Layout(model.obs_names, (1,) * len(model.obs_names), units=model.obs_units)
        self._running: Running | None = None
        self._pending: Outcome | None = None
        self._ended = np.ones(num_envs, np.bool_)
        self._begin = jax.jit(self._begin_all)
        self._step = jax.jit(jax.vmap(self._advance))
        self._restart = jax.jit(jax.vmap(self._again))

    def _begin_all(self, seed: PRNGKeyArray) -> tuple[Running, Float32[Array, "env obs"]]:
        keys = jax.vmap(functools.partial(jax.random.fold_in, seed))(jnp.arange(self.spec.num_envs))
        return jax.vmap(self._first)(keys)

    def _first(self, key: PRNGKeyArray) -> tuple[Running, Float32[Array, "obs"]]:
        zero = jnp.zeros((), jnp.int32)
        state = self.model.reset(jax.random.fold_in(jax.random.fold_in(key, zero), zero))
        return Running(state, zero, zero, key), self.model.observe(state)

    def _again(self, running: Running, ended: Bool[Array, ""]) -> tuple[Running, Float32[Array, "obs"]]:
        """The first state of the next episode where this one has `ended`."""
        episode = running.episode + 1
        fresh = self.model.reset(jax.random.fold_in(jax.random.fold_in(running.key, episode), 0))
        begun_anew = fresh, jnp.zeros_like(running.steps), episode
        state, steps, episode = jax.tree.map(lambda new, old: jnp.where(ended, new, old), begun_anew, running[:3])
        return Running(state, steps, episode, running.key), self.model.observe(state)

    def _advance(self, running: Running, action: Float32[Array, "action"]) -> tuple[Running, Outcome]:
        """One decision: the action repeated until the episode ends."""
        over = jnp.zeros((), jnp.bool_)
        total, terminated = jnp.zeros(()), over
        for _ in range(self.spec.action_repeat):
            steps = running.steps + 1
            key = jax.random.fold_in(jax.random.fold_in(running.key, running.episode), steps)
            state, reward, discount = self.model.step(running.state, action, key)
            terminated = terminated | (~over & (discount == 0.0))
            total = total + jnp.where(over, 0.0, reward)
            stay = functools.partial(jnp.where, over)
            state, steps = jax.tree.map(stay, running[:2], (state, steps))
            running = running._replace(state=state, steps=steps)
            over = terminated | (running.steps >= self.model.episode_length)
        return running, Outcome(self.model.observe(running.state), total, terminated, over & ~terminated)

    def reset(self, seed: int) -> TimeStep:
        self._pending = None
        self._running, obs = self._begin(jax.random.key(seed))
        self._ended = np.zeros(self.spec.num_envs, np.bool_)
        return first_step(self._checked(obs))

    def send(self, actions: np.ndarray) -> None:
        actions = check_actions(self.name, self.spec, actions)
        if self._pending is not None or np.count_nonzero(self._ended):
            raise RuntimeError(f"{self.name}: send() must follow recv(), and restart() where an episode has ended")
        self._running, self._pending = self._step(self._running, actions)

    def recv(self) -> TimeStep:
        assert self._pending is not None, "recv() without send()"
        outcome, self._pending = self._pending, None
        obs, reward = self._checked(outcome.obs), np.asarray(outcome.reward)
        terminated, truncated = np.asarray(outcome.terminated), np.asarray(outcome.truncated)
        if not np.isfinite(reward).all():
            self._fail(int(np.flatnonzero(~np.isfinite(reward))[0]), "reward", "is not finite")
        self._ended = terminated | truncated
        return TimeStep(obs, reward, terminated, truncated, np.zeros(self.spec.num_envs, np.bool_))

    def restart(self, after: TimeStep) -> TimeStep:
        ended = self._ended
        if not np.count_nonzero(ended):
            return after
        self._running, obs = self._restart(self._running, ended)
        self._ended = np.zeros(self.spec.num_envs, np.bool_)
        return begun(after, ended, self._checked(obs))

    def _checked(self, obs: Array) -> np.ndarray:
        seen = np.asarray(obs)
        fault = self.layout.fault(seen)
        if fault is not None:
            self._fail(*fault)
        return seen

    def _fail(self, index: int, field: str, detail: str) -> None:
        steps = 0 if self._running is None else int(self._running.steps[index]) // self.spec.action_repeat
        raise EnvError(self.name, index, steps, field, detail)

    @property
    def states(self) -> Any:
        """The model's states, leaves [env, ...]."""
        assert self._running is not None, "states before reset()"
        return self._running.state

    def snapshot(self) -> Snapshot:
        if self._running is None or self._pending is not None:
            raise RuntimeError(f"{self.name}: snapshot() must follow reset() and not come between send() and recv()")
        plain = self._running._replace(key=jax.random.key_data(self._running.key))
        leaves = [np.array(leaf) for leaf in jax.tree.leaves(plain)]
        return {"ended": self._ended.copy(), "leaves": {str(i): leaf for i, leaf in enumerate(leaves)}}

    def restore(self, snapshot: Snapshot) -> None:
        like = jax.eval_shape(self._begin, jax.random.key(0))[0]
        leaves = [jnp.asarray(snapshot["leaves"][str(i)]) for i in range(len(snapshot["leaves"]))]
        if leaves[-1].shape[0] != self.spec.num_envs:
            count = leaves[-1].shape[0]
            raise UsageError(f"{self.name}: the snapshot is of {count} environments, there are {self.spec.num_envs}")
        plain = jax.tree.unflatten(jax.tree.structure(like), leaves)
        self._running = plain._replace(key=jax.random.wrap_key_data(plain.key))
        self._pending, self._ended = None, np.array(snapshot["ended"], np.bool_)

    def render(self, index: int = 0) -> np.ndarray:
        """What environment `index` looks like, uint8 [height, height, 3]."""
        if self._running is None or not 0 <= index < self.spec.num_envs:
            raise ValueError(f"{self.name}: cannot render environment {index} of {self.spec.num_envs} now")
        return draw(
            self.model.lines(jax.tree.map(lambda leaf: np.asarray(leaf[index]), self._running.state)), self._height
        )

    def close(self) -> None:
        self._running = self._pending = None
