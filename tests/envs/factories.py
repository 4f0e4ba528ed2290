"""A user's environments: small, with known answers, each with one habit or one fault."""

import os
import sys
import time
from typing import Any

import dm_env
import gymnasium
import numpy as np
from dm_env import specs
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreplan.core.spec import Spec


class Countdown(gymnasium.Env):
    """Observation: (which episode since it was seeded, which step). Terminates after three; the reward is the step."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(np.float32([-2.0, 0.0]), np.float32([2.0, 10.0]))
    length = 3

    def __init__(self) -> None:
        self.episode = -1
        self.actions: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episode, self.at = self.episode + 1 if seed is None else 0, 0
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([self.episode, self.at], np.float64)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.actions.append(action)
        self.at += 1
        return self.observe(), float(self.at), self.at == self.length, False, {}


class Noisy(Countdown):
    """All it says is drawn from the seeded generator and moved by the actions."""

    def observe(self) -> Any:
        moved = sum(float(action[0]) for action in self.actions[-self.at :]) if self.at else 0.0
        return self.np_random.normal(size=2) + moved


class Parts(Countdown):
    """A dictionary of parts, one of them a tuple, with bounds."""

    observation_space = spaces.Dict(
        {
            "zoo": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
            "ant": spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 9.0, (1,), np.float32))),
        }
    )

    def observe(self) -> Any:
        zoo = np.full((2, 2), 0.5, np.float32)
        return {"zoo": zoo, "ant": (self.at % 3, np.array([self.at], np.float32))}


class Outside(Parts):
    def observe(self) -> Any:
        seen = super().observe()
        seen["zoo"][1, 0] = 1.5 if self.at == 2 else 0.0
        return seen


class Raises(Countdown):
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        if self.at == 1:
            raise ZeroDivisionError("the gripper is open")
        return super().step(action)


class Nan(Countdown):
    def observe(self) -> Any:
        return np.array([0.0, np.nan if self.at == 2 else 0.0])


class NanReward(Countdown):
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float("nan") if self.at == 2 else 0.0, terminated, truncated, info


class WrongShape(Countdown):
    def observe(self) -> Any:
        return np.zeros(3 if self.at == 1 else 2)


class Unseeded(Countdown):
    """Ignores its seed."""

    def observe(self) -> Any:
        return np.array([np.frombuffer(os.urandom(4), np.uint32)[0], self.at], np.float64)


class Dies(Countdown):
    """Takes its whole process along."""

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        os._exit(7)


class Slow(Countdown):
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        time.sleep(0.002)
        return super().step(action)


class Unbounded(Countdown):
    action_space = spaces.Box(np.float32([-1.0, -np.inf]), np.float32([1.0, np.inf]))


class ManyHands(Countdown):
    action_space = spaces.MultiDiscrete([2, 3])


class Numbered(Countdown):
    """Three discrete actions, whose numbers begin at 5."""

    action_space = spaces.Discrete(3, start=5)


class SaysJax(Countdown):
    """Its observation says whether JAX has been imported in the process it lives in."""

    def observe(self) -> Any:
        return np.array(["jax" in sys.modules, os.getpid()], np.float64)


class DmCountdown(dm_env.Environment):
    """As `Countdown`, through DeepMind's interface: truncated by a last step whose discount is one."""

    def reset(self) -> dm_env.TimeStep:
        self.at = 0
        return dm_env.restart(self.observe())

    def observe(self) -> dict:
        return {"at": np.float64(self.at), "pair": np.array([[1.0, 2.0]])}

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        self.at += 1
        last = dm_env.StepType.LAST if self.at == 3 else dm_env.StepType.MID
        return dm_env.TimeStep(last, float(action[0]), 1.0, self.observe())

    def observation_spec(self) -> dict:
        return {"at": specs.Array((), np.float64), "pair": specs.Array((1, 2), np.float64)}

    def action_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((1,), np.float64, 0.0, 4.0)


class Own:
    """An object with the methods of `foreplan.envs.base.Env`: a counter that forgets half of its state if told to."""

    name, exactness = "own", "bitwise"
    spec = Spec(obs_shape=(1,), action_dim=1, episode_length=5)
    forgets = False

    def __init__(self) -> None:
        self.total, self.at = 0.0, 0

    def reset(self, seed: int | None = None) -> np.ndarray:
        if seed is not None:
            self.total = float(seed % 100)
        self.at = 0
        return np.float32([self.total])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self.at, self.total = self.at + 1, self.total + float(action[0])
        return np.float32([self.total]), float(self.at), False, self.at == 5

    def snapshot(self) -> dict:
        return {"at": self.at} if self.forgets else {"at": self.at, "total": self.total}

    def restore(self, snapshot: dict) -> None:
        self.at, self.total = snapshot["at"], snapshot.get("total", self.total)

    def render(self) -> np.ndarray:
        return np.zeros((2, 2, 3), np.uint8)

    def close(self) -> None:
        pass


class Forgetful(Own):
    forgets = True


class Immortal(Own):
    """Declares that it never terminates, and then does."""

    spec = Spec(obs_shape=(1,), action_dim=1, terminates=False)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        obs, reward, _, ended = super().step(action)
        return obs, reward, ended, False


def nothing() -> int:
    return 3


def crashes() -> None:
    raise OSError("no robot here")


def vector(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([Countdown, Countdown], autoreset_mode=mode)


def next_step() -> SyncVectorEnv:
    return vector(AutoresetMode.NEXT_STEP)


def same_step() -> SyncVectorEnv:
    return vector(AutoresetMode.SAME_STEP)


def disabled() -> SyncVectorEnv:
    return vector(AutoresetMode.DISABLED)


def same_step_parts() -> SyncVectorEnv:
    return SyncVectorEnv([Parts, Parts], autoreset_mode=AutoresetMode.SAME_STEP)


def unknown_mode() -> SyncVectorEnv:
    env = next_step()
    env.metadata["autoreset_mode"] = "Sometimes"
    return env


def numbered() -> SyncVectorEnv:
    return SyncVectorEnv([Numbered, Numbered], autoreset_mode=AutoresetMode.DISABLED)


class MaskBlind(SyncVectorEnv):
    """Resets everything when asked to reset some."""

    def reset(self, *, seed: Any = None, options: dict | None = None) -> tuple[Any, dict]:
        return super().reset(seed=seed)


class Longer(Countdown):
    length = 4


def mask_blind() -> SyncVectorEnv:
    return MaskBlind([Countdown, Longer], autoreset_mode=AutoresetMode.DISABLED)
