"""Several environments stepped one after another in one process, held to their contract.

This module and what it imports do without JAX: it is what a worker process runs.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from foreplan.core.errors import EnvError
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs import gl
from foreplan.envs.base import Env
from foreplan.envs.layout import Layout

StepArrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Batch:
    """`envs[i]` is environment `first + i` of the vector environment; each has its own stream of seeds."""

    def __init__(self, envs: Sequence[Env], first: int = 0) -> None:
        self.envs, self._first = list(envs), first
        self.spec = envs[0].spec
        self._size = int(np.prod(envs[0].spec.obs_shape))
        self._layout: Layout = getattr(envs[0], "layout", Layout.plain(self._size))
        self._steps = [0] * len(envs)  # decisions into the running episode, for error messages

    @property
    def exactness(self) -> Exactness:
        return weakest(env.exactness for env in self.envs)

    def reset(self, seed: int) -> np.ndarray:
        """First observations [env, obs]. Environment i's stream follows from (seed, i) alone."""
        obs = np.empty((len(self.envs), self._size), np.float32)
        for i, env in enumerate(self.envs):
            stream = np.random.SeedSequence(seed, spawn_key=(self._first + i,))
            self._steps[i] = 0
            self._guard(i, "reset", self._first_obs, env, obs[i], int(stream.generate_state(1)[0]) >> 1)
        return self._checked(obs)

    def restart(self, ended: np.ndarray) -> np.ndarray:
        """First observations [env, obs] of the environments that have `ended`; the other rows mean nothing."""
        obs = np.zeros((len(self.envs), self._size), np.float32)
        for i in np.flatnonzero(ended).tolist():
            self._steps[i] = 0
            self._guard(i, "reset", self._first_obs, self.envs[i], obs[i], None)
        return self._checked(obs)

    def _first_obs(self, env: Env, row: np.ndarray, seed: int | None) -> None:
        fill(row, env.reset(seed))

    def step(self, actions: np.ndarray) -> StepArrays:
        """One decision each: `actions` [env, action] to obs, reward, terminated, truncated, in new arrays, for JAX may
        go on using the memory of those it was given."""
        count = len(self.envs)
        obs, reward = np.empty((count, self._size), np.float32), np.empty(count, np.float32)
        terminated, truncated = np.empty(count, np.bool_), np.empty(count, np.bool_)
        i = 0
        try:
            for i, env in enumerate(self.envs):
                self._steps[i] += 1
                row, gain, terminated[i], truncated[i] = env.step(actions[i])
                fill(obs[i], row)
                reward[i] = gain
                if not isfinite(gain):
                    raise ValueError(f"the reward {gain} is not finite")
        except Exception as error:
            raise self._error(i, "step", error) from error
        return self._checked(obs), reward, terminated, truncated

    def _checked(self, obs: np.ndarray) -> np.ndarray:
        fault = self._layout.fault(obs)
        if fault is not None:
            i, field, detail = fault
            raise EnvError(self.envs[i].name, self._first + i, self._steps[i], field, detail)
        return obs

    def _guard(self, i: int, field: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            raise self._error(i, field, error) from error

    def _error(self, i: int, field: str, error: Exception) -> EnvError:
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        return EnvError(self.envs[i].name, self._first + i, self._steps[i], field, detail)

    def snapshot(self) -> Snapshot:
        return {str(self._first + i): self._save(i) for i in range(len(self.envs))}

    def _save(self, i: int) -> Snapshot:
        return {"steps": self._steps[i], "env": self._guard(i, "snapshot", self.envs[i].snapshot)}

    def restore(self, snapshot: Snapshot) -> None:
        for i, env in enumerate(self.envs):
            saved = snapshot[str(self._first + i)]
            self._steps[i] = saved["steps"]
            self._guard(i, "restore", env.restore, saved["env"])

    def render(self, index: int) -> np.ndarray:
        """Raises `RenderUnavailable`, whatever the environment's own reason was."""
        env = self.envs[index - self._first]
        try:
            return env.render()
        except Exception as error:
            raise gl.unavailable(env.name, error) from error

    def close(self) -> None:
        for env in self.envs:
            env.close()


def fill(row: np.ndarray, obs: np.ndarray) -> None:
    if obs.shape != row.shape:
        raise ValueError(f"the observation has shape {obs.shape}, promised was {row.shape}")
    row[:] = obs


def weakest(claims: Any) -> Exactness:
    """What all of them can claim."""
    return max(claims, key=("bitwise", "physics", "replay").index)
