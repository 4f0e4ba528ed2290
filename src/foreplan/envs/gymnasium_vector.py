"""A user's own `gymnasium.vector.VectorEnv`, whatever its autoreset mode.

The three modes differ in what `step` returns where an episode ends. Here they all become one: the true successor
first, then, from `restart`, the first observation of the next episode.

    NEXT_STEP   the successor is true, but the next step would ignore the action: we reset those environments before it
    SAME_STEP   the first observation of the next episode is returned at once; the successor is in `infos["final_obs"]`
    DISABLED    the successor is true and nothing is reset: we do it
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector import utils as vector_utils

from foreplan.core.errors import EnvError, UsageError
from foreplan.core.types import Exactness, Snapshot, Spec, TimeStep
from foreplan.envs import gl
from foreplan.envs.base import check_bounds
from foreplan.envs.gymnasium import action_bounds, numbers, space_layout, time_limit
from foreplan.envs.vector import begun, check_actions, first_step


class GymVectorEnv:
    """Its snapshot is its seed and every action since: restoring it takes as long as the run has taken to get there."""

    exactness: Exactness = "replay"

    def __init__(self, name: str, env: Any, num_envs: int, action_repeat: int) -> None:
        self._mode = env.metadata.get("autoreset_mode")
        if self._mode not in tuple(AutoresetMode):
            modes = ", ".join(mode.name for mode in AutoresetMode)
            raise UsageError(f"{name}: metadata['autoreset_mode'] is {self._mode!r}; accepted: {modes}")
        if num_envs not in (1, env.num_envs):
            raise UsageError(f"{name} is a vector of {env.num_envs} environments already, not of {num_envs}")
        if action_repeat != 1:
            raise UsageError(f"{name}: action_repeat is {action_repeat}; a vector environment must repeat by itself")
        self._low, self._high = action_bounds(name, env.single_action_space)
        check_bounds(name, self._low, self._high)
        self.name, self._env, self._space = name, env, env.single_observation_space
        self.layout = space_layout(name, self._space)
        self.spec = Spec(
            obs_shape=(self.layout.size,),
            action_dim=self._low.size,
            num_envs=env.num_envs,
            episode_length=time_limit(env),
            discrete=isinstance(env.single_action_space, spaces.Discrete),
        )
        self._seed: int | None = None
        self._steps = np.zeros(env.num_envs, np.int64)
        self._ended = np.ones(env.num_envs, np.bool_)
        self._pending: np.ndarray | None = None
        self._fresh = np.zeros((env.num_envs, self.layout.size), np.float32)  # SAME_STEP's first observations
        self._actions: list[np.ndarray] = []
        self._restarts: list[np.ndarray] = []  # which environments were restarted after each of `_actions`

    def reset(self, seed: int) -> TimeStep:
        self._seed, self._actions, self._restarts, self._pending = seed, [], [], None
        self._steps[:], self._ended[:] = 0, False
        obs, _ = self._env.reset(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]) >> 1)
        return first_step(self._checked(self._flatten(obs)))

    def send(self, actions: np.ndarray) -> None:
        actions = check_actions(self.name, self.spec, actions)
        if self._pending is not None or np.count_nonzero(self._ended):
            raise RuntimeError(f"{self.name}: send() must follow recv(), and restart() where an episode has ended")
        self._pending = actions.copy()

    def recv(self) -> TimeStep:
        assert self._pending is not None, "recv() without send()"
        actions, self._pending = self._pending, None
        self._actions.append(actions)
        self._restarts.append(np.zeros(self.spec.num_envs, np.bool_))
        self._steps += 1
        try:
            obs, reward, terminated, truncated, infos = self._env.step(self._raw(actions))
        except Exception as error:
            raise EnvError(self.name, 0, int(self._steps[0]), "step", f"{type(error).__name__}: {error}") from error
        successor = self._flatten(obs)
        self._ended = np.array(terminated, np.bool_) | np.array(truncated, np.bool_)
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            self._fresh = successor.copy()
            for i in np.flatnonzero(self._ended).tolist():
                successor[i] = self._final(infos, i)
        reward = np.array(reward, np.float32)
        if not np.isfinite(reward).all():
            i = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise EnvError(self.name, i, int(self._steps[i]), "reward", f"{reward[i]} is not finite")
        flags = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        return TimeStep(self._checked(successor), reward, *flags, np.zeros(self.spec.num_envs, np.bool_))

    def _raw(self, actions: np.ndarray) -> np.ndarray:
        """The library's own actions, [env, ...]."""
        if self.spec.discrete:
            return numbers(self._env.single_action_space, actions)
        low, high = self._low, self._high
        raw = np.clip(low + 0.5 * (high - low) * (actions.reshape(-1, *low.shape) + 1.0), low, high)
        return raw.astype(low.dtype)

    def restart(self, after: TimeStep) -> TimeStep:
        ended = self._ended
        if not np.count_nonzero(ended):
            return after
        if self._mode is AutoresetMode.SAME_STEP:
            fresh = self._fresh
        else:
            fresh = self._flatten(self._env.reset(options={"reset_mask": ended.copy()})[0])
            moved = ~ended & (fresh != np.asarray(after.obs)).any(axis=1)
            if moved.any():
                i = int(np.flatnonzero(moved)[0])
                detail = "it was reset with the others: options['reset_mask'] is ignored; use the mode SAME_STEP"
                raise EnvError(self.name, i, int(self._steps[i]), "reset", detail)
        self._restarts[-1] |= ended
        self._steps[ended] = 0
        self._ended = np.zeros(self.spec.num_envs, np.bool_)
        return begun(after, ended, self._checked(fresh))

    def _final(self, infos: dict, i: int) -> np.ndarray:
        """The last observation of the episode that has just ended in environment `i`."""
        if "final_obs" not in infos:
            raise EnvError(self.name, i, int(self._steps[i]), "infos", "SAME_STEP without 'final_obs'")
        return np.asarray(spaces.utils.flatten(self._space, pick(infos["final_obs"], i)), np.float32)

    def _flatten(self, obs: Any) -> np.ndarray:
        if isinstance(self._space, spaces.Box):
            rows = np.array(obs, np.float32)
        else:
            items = vector_utils.iterate(self._env.observation_space, obs)
            rows = np.array([spaces.utils.flatten(self._space, item) for item in items], np.float32)
        flat = rows.reshape(self.spec.num_envs, -1)
        if flat.shape[1] != self.layout.size:
            detail = f"has {flat.shape[1]} numbers, its space {self.layout.size}"
            raise EnvError(self.name, 0, int(self._steps[0]), "obs", detail)
        return flat

    def _checked(self, obs: np.ndarray) -> np.ndarray:
        fault = self.layout.fault(obs)
        if fault is not None:
            i, field, detail = fault
            raise EnvError(self.name, i, int(self._steps[i]), field, detail)
        return obs

    def snapshot(self) -> Snapshot:
        shape = (len(self._actions), self.spec.num_envs)
        actions = np.array(self._actions, np.float32).reshape(*shape, self.spec.action_dim)
        return {"seed": self._seed, "actions": actions, "restarts": np.array(self._restarts, np.bool_).reshape(shape)}

    def restore(self, snapshot: Snapshot) -> None:
        self.reset(snapshot["seed"])
        for actions, restarts in zip(snapshot["actions"], snapshot["restarts"], strict=True):
            self.send(actions)
            after = self.recv()
            if restarts.any():
                self.restart(after)

    def render(self, index: int = 0) -> np.ndarray:
        try:
            return np.asarray(self._env.render()[index], np.uint8)
        except Exception as error:
            raise gl.unavailable(self.name, error) from error

    def close(self) -> None:
        self._env.close()


def pick(batched: Any, i: int) -> Any:
    """Entry `i` of what Gymnasium has gathered in `infos`; masks begin with an underscore."""
    if isinstance(batched, dict):
        return {key: pick(value, i) for key, value in batched.items() if not key.startswith("_")}
    return batched[i]
