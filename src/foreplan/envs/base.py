"""One environment on the host, and the one class that turns any library's environment into it.

An adapter speaks a library's own language: its observations, its action bounds, its seeds. `AdaptedEnv` adds, once for
all of them, actions in [-1, 1], action repeat, a stream of seeds, and snapshots by capture or by replay.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Exactness, Snapshot, Spec
from foreplan.envs.layout import Layout

StepResult = tuple[np.ndarray, float, bool, bool]  # obs float32 [obs], reward, terminated, truncated


@runtime_checkable
class Env(Protocol):
    """One environment. Whoever steps it calls `reset` before the first step and after each episode's end."""

    name: str
    spec: Spec

    @property
    def exactness(self) -> Exactness:
        """What `restore` guarantees; it is settled by the first `reset`."""
        ...

    def reset(self, seed: int | None = None) -> np.ndarray:
        """The first observation, float32 [obs]. With a seed everything begins anew; without one the environment's own
        stream of episodes continues."""
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """One decision: `action` is float32 [action] in [-1, 1]."""
        ...

    def snapshot(self) -> Snapshot:
        """All that decides what happens next."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to `snapshot`, which may come from another instance in another process."""
        ...

    def render(self) -> np.ndarray:
        """The scene, uint8 [height, width, 3]. Raises `RenderUnavailable`."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Adapter(Protocol):
    """What must be said of a library's environment, in the library's units; discrete actions as one-hot vectors."""

    layout: Layout
    action_low: np.ndarray
    action_high: np.ndarray
    discrete: bool
    time_limit: int | None  # environment steps
    terminates: bool
    exactness: Exactness  # "replay" where `capture` cannot be trusted

    def reset(self, seed: int) -> np.ndarray: ...
    def step(self, action: np.ndarray) -> StepResult: ...
    def capture(self) -> Snapshot: ...
    def install(self, state: Snapshot) -> None: ...
    def render(self) -> np.ndarray: ...
    def close(self) -> None: ...


class AdaptedEnv:
    """An `Env` made from an `Adapter`."""

    def __init__(self, name: str, adapter: Adapter, action_repeat: int = 1) -> None:
        check_bounds(name, adapter.action_low, adapter.action_high)
        self.name = name
        self.layout = adapter.layout
        self.adapter = adapter
        self._repeat = action_repeat
        low, high = adapter.action_low.ravel(), adapter.action_high.ravel()
        self._low, self._high = low, high
        self._middle, self._half = 0.5 * (high + low), 0.5 * (high - low)
        self._shape, self._dtype = adapter.action_low.shape, low.dtype
        limit = adapter.time_limit
        self.spec = Spec(
            obs_shape=(adapter.layout.size,),
            action_dim=low.size,
            action_repeat=action_repeat,
            episode_length=None if limit is None else -(-limit // action_repeat),
            terminates=adapter.terminates,
            discrete=adapter.discrete,
        )
        self._seed: int | None = None
        self._episode = -1
        self._log: list[np.ndarray] = []  # the episode's actions, kept only where a snapshot is a replay

    @property
    def exactness(self) -> Exactness:
        return self.adapter.exactness

    def reset(self, seed: int | None = None) -> np.ndarray:
        if seed is not None or self._seed is None:
            self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0]) if seed is None else int(seed)
            self._episode = -1
        self._episode += 1
        self._log.clear()
        return self.adapter.reset(episode_seed(self._seed, self._episode))

    def step(self, action: np.ndarray) -> StepResult:
        if self.exactness == "replay":
            self._log.append(np.array(action, np.float32))
        raw = self.rescale(action)
        obs, total, terminated, truncated = self.adapter.step(raw)
        for _ in range(self._repeat - 1):
            if terminated or truncated:
                break
            obs, reward, terminated, truncated = self.adapter.step(raw)
            total += reward
        return obs, total, terminated, truncated

    def rescale(self, action: np.ndarray) -> np.ndarray:
        """The environment's own action for one in [-1, 1]; what lies outside is clipped."""
        raw = np.minimum(np.maximum(self._middle + self._half * action, self._low), self._high)
        return raw.astype(self._dtype, copy=False).reshape(self._shape)

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.adapter.action_low, self.adapter.action_high

    def snapshot(self) -> Snapshot:
        saved: dict = {"seed": self._seed, "episode": self._episode}
        if self.exactness == "replay":
            saved["actions"] = np.array(self._log, np.float32).reshape(len(self._log), self.spec.action_dim)
        else:
            saved["state"] = self.adapter.capture()
        return saved

    def restore(self, snapshot: Snapshot) -> None:
        self._seed, self._episode = snapshot["seed"], snapshot["episode"]
        if "state" in snapshot:
            self.adapter.install(snapshot["state"])
        elif self._seed is not None:
            self._episode -= 1
            self.reset()
            for action in snapshot["actions"]:
                self.step(action)

    def render(self) -> np.ndarray:
        return self.adapter.render()

    def close(self) -> None:
        self.adapter.close()


def episode_seed(seed: int, episode: int) -> int:
    """The seed of one episode of an environment's stream: 31 bits, which every library accepts."""
    return int(np.random.SeedSequence(seed, spawn_key=(episode,)).generate_state(1)[0]) >> 1


def check_bounds(name: str, low: np.ndarray, high: np.ndarray) -> None:
    """Refuse actions that cannot be rescaled from [-1, 1]; a bound of 1e10 is MuJoCo's way of writing infinity."""
    for i, (a, b) in enumerate(zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)):
        if not (abs(a) < 1e9 and abs(b) < 1e9 and a < b):
            raise UsageError(f"{name}: action[{i}] is bounded by [{a:g}, {b:g}]; finite bounds, low < high, are needed")
