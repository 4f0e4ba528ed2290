"""Plans that are improved until the time is up, in a simulator or in a model."""

import gc
import math
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.model import Model, returns
from foreplan.planners.sampling import rounds_on_host
from foreplan.sims.rollout import scorer

Clock = Callable[[], float]  # seconds, monotonic


class Simulated:
    """What a controller asks of a simulator; states are snapshots."""

    def __init__(self, simulator: Any) -> None:
        self.simulator, self.action_dim = simulator, simulator.env.spec.action_dim

    def score(self, state: Any) -> Callable[[np.ndarray], np.ndarray]:
        return scorer(self.simulator, state)

    def ahead(self, state: Any, actions: list[np.ndarray]) -> Any:
        """Where `actions` lead, or the last state before the episode's end."""
        if not actions:
            return state
        env = self.simulator.env
        env.restore(state)
        for action in actions:
            _, _, terminated, truncated = env.step(action)
            if terminated or truncated:
                break
        return env.snapshot()


class Modelled:
    """What a controller asks of a `Model`; states are the model's."""

    def __init__(self, model: Model, action_dim: int) -> None:
        self.action_dim, self._key = action_dim, jax.random.key(0)
        self._returns = jax.jit(jax.vmap(partial(returns, model), (None, 0, None)))
        self._step = jax.jit(model.step)

    def score(self, state: Any) -> Callable[[np.ndarray], np.ndarray]:
        return lambda actions: np.asarray(self._returns(state, actions, self._key))

    def ahead(self, state: Any, actions: list[np.ndarray]) -> Any:
        for action in actions:
            state, _, _ = self._step(state, action, self._key)
        return state


class Anytime:
    """Improves a plan round by round until the time is up. A round is begun only where nine in ten of its recent like
    would still be in time."""

    def __init__(self, planner: Any, look: Simulated | Modelled, seed: int, clock: Clock) -> None:
        if not hasattr(planner, "ask"):
            raise UsageError(f"{type(planner).__name__} does not plan in rounds, and so cannot be stopped in time")
        self.planner, self.look, self.clock = planner, look, clock
        self._key, self._count = jax.random.key(seed), 0
        self._planned, self._shift = jax.jit(planner.planned), jax.jit(planner.shift)
        self._fold = jax.jit(jax.random.fold_in)
        self._forget_times()
        self.forget()

    def _forget_times(self) -> None:
        self._spent = [deque([0.0], maxlen=50) for _ in self.planner.populations]  # seconds of each round, lately
        self._rest = deque([0.0], maxlen=50)  # seconds that all but the rounds took

    def forget(self) -> None:
        self.memory = self.planner.init(self.look.action_dim)

    def warm(self, state: Any) -> None:
        """Compile everything, then time it. What exists by then is never looked at by the garbage collector again, and
        a thread that is due no longer waits 5 ms for one that is busy in Python."""
        self.improve(state, math.inf)
        self.shift(1)
        self._forget_times()
        for _ in range(3):
            self.improve(state, math.inf)
        self.forget()
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(min(sys.getswitchinterval(), 2e-4))

    def shift(self, times: int) -> None:
        for _ in range(times):
            self.memory = self._shift(self.memory)

    def improve(self, state: Any, due: float) -> tuple[np.ndarray | None, int]:
        """(plan [horizon, action], rounds) from `state`, one step on from the last, before the clock says `due`. There
        is no plan where there was no time for a round, or where no candidate was valid."""
        began, self._count = self.clock(), self._count + 1
        key = self._fold(self._key, np.uint32(self._count))
        rounds = rounds_on_host(self.planner, self.look.score(state), self.memory, key)
        best, valid, done, searching = None, False, 0, 0.0
        for spent, size in zip(self._spent, self.planner.populations, strict=True):
            now = self.clock()
            if now + mostly(spent) + mostly(self._rest) > due:
                break
            best, invalid = next(rounds)
            valid, done = valid or invalid < size, done + 1
            spent.append(self.clock() - now)
            searching += spent[-1]
        if best is None:  # believe it a little less each time, so that slow rounds are not the last
            self._spent[0], self._rest = (
                deque([0.97 * spent for spent in times], maxlen=50) for times in (self._spent[0], self._rest)
            )
            self.shift(1)
            return None, 0
        self.memory = best
        plan = np.asarray(self._planned(best))
        self._rest.append(self.clock() - began - searching)
        return (plan if valid else None), done


def mostly(seconds: deque[float]) -> float:
    """What nine in ten do not exceed."""
    return sorted(seconds)[9 * (len(seconds) - 1) // 10]
