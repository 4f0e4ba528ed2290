"""A small plant whose yield is measured badly: a task on which many updates of few samples overfit. From the root of
the repository:

    foreplan sweep sac benchmarks.noisy_plant:make --utd 0.5 2 8 auto --seeds 5
"""

from typing import Any

import gymnasium
import numpy as np

TARGET = np.array([1.0, -1.0, 0.0, 1.0])
INPUTS = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, -0.5]])
NOISE = 3.0  # deviation of what is measured of a step's yield


class NoisyPlant(gymnasium.Env):
    """Four states, held near a target by two inputs; eight further sensors show noise alone. A step yields 1 less the
    mean squared distance, measured with errors that are the same whatever is done, so that runs compare."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (12,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=4)
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.state = 0.9 * self.state + 0.2 * INPUTS @ np.clip(action, -1.0, 1.0) + 0.1 * self.np_random.normal(size=4)
        yielded = 1.0 - np.mean((self.state - TARGET) ** 2) + NOISE * self.np_random.normal()
        return self.seen(), float(yielded), False, False, {}

    def seen(self) -> np.ndarray:
        return np.concatenate([self.state, self.np_random.normal(size=8)]).astype(np.float32)


def make() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(NoisyPlant(), 100)
