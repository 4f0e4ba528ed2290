"""Worlds with known answers, written into a replay buffer step by step as the loop of training does it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from foreplan.core.replay import Replay, Window, insert
from foreplan.core.types import Spec, Step

Transition = tuple[np.ndarray, float, bool, bool, np.ndarray]  # obs, reward, terminated, truncated, next obs


def remember(
    replay: Replay,
    transitions: Iterable[Transition],
    action: np.ndarray,
    episode: Any = 0,
    extras: dict[str, Any] | None = None,
) -> Replay:
    """Insert one transition an environment; `episode` is the number of each one's episode."""
    obs, reward, terminated, truncated, after = zip(*transitions, strict=True)
    return insert(
        replay,
        Step(
            obs=np.stack(obs).astype(np.float32),
            action=action.astype(np.float32),
            reward=np.asarray(reward, np.float32),
            terminated=np.asarray(terminated, np.bool_),
            truncated=np.asarray(truncated, np.bool_),
            next_obs=np.stack(after).astype(np.float32),
            episode=np.full(len(action), episode, np.int32),
            extras=extras or {},
        ),
    )


def one_hot(index: int, size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[index]


def corridor(
    length: int, *, rewards: list[float], terminates: bool, steps: int = 256, rooms: int = 8
) -> tuple[Replay, Spec]:
    """Episodes of `length` steps through rooms 0, 1, ... (one-hot observations), whatever is done. Step t is paid
    `rewards[t]`; the last one terminates, or is truncated."""
    spec = Spec(obs_shape=(rooms,), action_dim=1, episode_length=length)
    replay = Replay.create(spec, steps)
    random = np.random.default_rng(0)
    for t in np.arange(steps) % length:
        last = t == length - 1
        step = one_hot(t, rooms), rewards[t], last and terminates, last and not terminates, one_hot(t + 1, rooms)
        replay = remember(replay, [step], random.uniform(-1, 1, (1, 1)))
    return replay, spec


def loop(*, reward: float, limit: int, steps: int = 256, rooms: int = 8) -> tuple[Replay, Spec]:
    """A walk at random in which each step pays `reward` and nothing ever ends but by the time limit."""
    spec = Spec(obs_shape=(rooms,), action_dim=1, episode_length=limit)
    replay = Replay.create(spec, steps)
    random = np.random.default_rng(0)
    room = 0
    for t in range(steps):
        after = int(random.integers(rooms))
        step = one_hot(room, rooms), reward, False, (t + 1) % limit == 0, one_hot(after, rooms)
        replay = remember(replay, [step], random.uniform(-1, 1, (1, 1)))
        room = int(random.integers(rooms)) if (t + 1) % limit == 0 else after
    return replay, spec


def hazard(chance: float, *, steps: int, rooms: int = 8) -> tuple[Replay, Spec]:
    """A walk around all rooms in which each step into room 0 ends the episode with this chance, others never."""
    spec = Spec(obs_shape=(rooms,), action_dim=1)
    replay = Replay.create(spec, steps)
    random = np.random.default_rng(0)
    room = 0
    for _ in range(steps):
        after = (room + 1) % rooms
        ends = after == 0 and bool(random.random() < chance)
        step = one_hot(room, rooms), 0.0, ends, False, one_hot(after, rooms)
        replay = remember(replay, [step], random.uniform(-1, 1, (1, 1)))
        room = after
    return replay, spec


def counter(capacity: int, num_envs: int, steps: int, ends: np.ndarray) -> tuple[Replay, list[list[int]]]:
    """An environment that counts, so that a window shows where it came from. In environment e at step t the
    observation is (e, episode, n), the action n / 1000 and the reward n, where n goes on by one each step and by ten
    where an episode ends. `ends[t, e]` is 0 (goes on), 1 (terminated) or 2 (truncated).

    Returns the buffer and the numbers n that it still holds, by environment.
    """
    spec = Spec(obs_shape=(3,), action_dim=1, num_envs=num_envs)
    replay = Replay.create(spec, capacity)
    number, episode = np.zeros(num_envs, int), np.zeros(num_envs, int)
    seen: list[list[int]] = [[] for _ in range(num_envs)]
    for t in range(steps):
        transitions = []
        for e in range(num_envs):
            obs, after = np.array([e, episode[e], number[e]]), np.array([e, episode[e], number[e] + 1])
            transitions.append((obs, float(number[e]), ends[t, e] == 1, ends[t, e] == 2, after))
            seen[e].append(int(number[e]))
        replay = remember(replay, transitions, number[:, None] / 1000, episode * num_envs + np.arange(num_envs))
        ended = ends[t] > 0
        number, episode = number + np.where(ended, 10, 1), episode + ended
    kept = replay.capacity
    return replay, [numbers[-kept:] for numbers in seen]


class Drift:
    """Five numbers that drift with two actions, for ten decisions."""

    spec = Spec(obs_shape=(5,), action_dim=2, episode_length=10, terminates=False)
    name, exactness = "drift", "bitwise"

    def reset(self, seed: int | None = None) -> np.ndarray:
        self.obs, self.time = np.random.default_rng(seed or 0).normal(size=5).astype(np.float32), 0
        return self.obs

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self.obs = (0.9 * self.obs + 0.1 * np.resize(action, 5)).astype(np.float32)
        self.time += 1
        return self.obs, float(self.obs[0]), False, self.time == 10

    def snapshot(self) -> dict:
        return {"obs": self.obs.copy(), "time": self.time}

    def restore(self, snapshot: dict) -> None:
        self.obs, self.time = snapshot["obs"].copy(), snapshot["time"]

    def render(self) -> np.ndarray:
        return np.zeros((2, 2, 3), np.uint8)

    def close(self) -> None:
        pass


class EndingDrift(Drift):
    spec = replace(Drift.spec, terminates=True)


def ending() -> Window:
    """Three steps of: an episode that goes on, one terminated in the second step, one truncated in the second step, and
    one terminated in the first, with another episode behind."""
    ends = [[0, 0, 0], [0, 1, 0], [0, 2, 0], [1, 0, 0]]
    terminated, truncated = np.array(ends) == 1, np.array(ends) == 2
    over = np.cumsum(terminated | truncated, axis=1) - (terminated | truncated)
    return Window(
        obs=jnp.arange(4, dtype=jnp.float32)[None, :, None] * jnp.ones((4, 1, 1)),
        action=jnp.zeros((4, 3, 1)),
        reward=jnp.asarray([[1.0, 2.0, 3.0]] * 3 + [[-100.0, 5.0, 7.0]]),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        mask=jnp.asarray(over == 0),
    )
