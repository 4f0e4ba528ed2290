"""A simulator whose candidates are judged by others' reward, end and value: functions of what is observed. Exactly the
same physics, but stepped decision by decision so that it can be looked at, which is many times slower."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foreplan.core.spec import Exactness, Snapshot
from foreplan.sims.mujoco import MujocoSimulator
from foreplan.sims.rollout import Rollout
from foreplan.sims.stepping import SteppingSimulator

Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # obs, action, obs after [n, ...] -> [n]


@dataclass(frozen=True)
class Judged:
    """What is not given is the simulator's own. `continuation` is a probability; `value` is of observations [n, obs]
    beyond the horizon; each decision is discounted by `discount`."""

    simulator: MujocoSimulator | SteppingSimulator
    reward: Judge | None = None
    continuation: Judge | None = None
    value: Callable[[np.ndarray], np.ndarray] | None = None
    discount: float = 1.0
    begin: np.ndarray | None = None  # what is observed where candidates begin, [obs]

    def at(self, obs: np.ndarray) -> "Judged":
        """To plan from where `obs` is observed."""
        return replace(self, begin=obs)

    @property
    def env(self) -> Any:
        return self.simulator.env

    @property
    def exactness(self) -> Exactness:
        return self.simulator.exactness

    def snapshot(self) -> Snapshot:
        return self.simulator.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.simulator.restore(snapshot)

    def rollout(self, snapshot: Snapshot, actions: np.ndarray) -> Rollout:
        """What `actions` [n, horizon, action] return from `snapshot`."""
        assert self.begin is not None, "where plans begin must be said by `at`"
        simulator: Any = self.simulator
        states, obs = simulator.many(snapshot, len(actions)), np.repeat(self.begin[None], len(actions), axis=0)
        rewards, discounts = np.zeros(actions.shape[:2]), np.ones(actions.shape[:2])
        for t in range(actions.shape[1]):
            states, after, rewards[:, t], discounts[:, t] = simulator.advance(states, actions[:, t], obs)
            seen = obs, actions[:, t], after
            if self.reward is not None:  # what has diverged stays so
                rewards[:, t] = np.where(np.isfinite(rewards[:, t]), self.reward(*seen), rewards[:, t])
            if self.continuation is not None:
                discounts[:, t] = self.continuation(*seen)
            obs = after
        values = np.zeros(len(actions)) if self.value is None else self.value(obs)
        alive = np.cumprod(np.concatenate([np.ones((len(actions), 1)), discounts[:, :-1]], axis=1), axis=1) > 0.0
        failed = (alive & ~np.isfinite(rewards)).any(axis=1)
        rewards = np.where(alive & np.isfinite(rewards), rewards, 0.0)
        rewards[failed, 0] = -np.inf
        return Rollout(rewards, self.discount * discounts, values, np.zeros(len(actions), int))


def follow(
    simulator: Any, snapshot: Snapshot, obs: np.ndarray, choose: Callable[[np.ndarray, int], np.ndarray], horizon: int
) -> np.ndarray:
    """What `choose` does, given what is observed [n, obs] and the decision: actions [n, horizon, action]. Where all
    begin, `obs` is observed."""
    states, actions = simulator.many(snapshot, len(obs)), []
    for t in range(horizon):
        actions.append(choose(obs, t))
        if t + 1 < horizon:
            states, obs, _, _ = simulator.advance(states, actions[-1], obs)
    return np.stack(actions, axis=1)
