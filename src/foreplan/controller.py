"""Control in real time: an answer is always there when it is due, planned or not.

A decision is the first of these that there is, and which it was is counted:

    planned   a plan that was improved for this very decision, in as many rounds as there was time for
    shifted   the last plan that was improved, as far as it reaches
    policy    what a policy does
    safe      an action that does no harm

Planning takes time, in which the plant goes on. So a plan is made for a state `latency` decisions ahead, foretold by
doing what is going to be done until then. `Controller` plans within the call, `ThreadedController` in a thread of its
own, so that whoever drives the plant never waits.
"""

import gc
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.model import Model, returns
from foreplan.planners.sampling import rounds_on_host
from foreplan.sims.rollout import scorer

Source = Literal["planned", "shifted", "policy", "safe"]
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


@dataclass
class Record:
    """What was decided: seconds from the question to the answer, decisions since the plan was improved, and whose
    answer it was; one entry a decision. `planning` has the seconds of every plan, `rounds` how many each had."""

    deadline: float  # seconds
    latency: list[float] = field(default_factory=list)
    age: list[int] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def note(self, latency: float, age: int, source: Source) -> None:
        self.latency.append(latency)
        self.age.append(age)
        self.source.append(source)

    def summary(self) -> dict[str, Any]:
        """Latencies in ms; `missed` counts answers that came after the deadline."""
        latency = np.array(self.latency)
        return {
            "decisions": len(latency),
            "deadline_ms": self.deadline * 1e3,
            "missed": int(np.sum(latency > self.deadline)),
            "latency_ms": milliseconds(self.latency),
            "planning_ms": milliseconds(self.planning),
            "plan_age": {f"p{q}": float(np.percentile(self.age, q)) for q in (50, 95, 99)} | {"max": max(self.age)},
            "rounds": dict(sorted(Counter(self.rounds).items())),
            "sources": dict(Counter(self.source)),
        }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median, tail and worst."""
    ms = 1e3 * np.array(seconds or [0.0])
    return {f"p{q}": float(np.percentile(ms, q)) for q in (50, 95, 99)} | {"max": float(ms.max())}


class Anytime:
    """Improves a plan round by round until the time is up. A round is begun only where the slowest of its recent like
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
        """Compile everything, then time it. What exists by then is never looked at by the garbage collector again."""
        self.improve(state, math.inf)
        self.shift(1)
        self._forget_times()
        for _ in range(3):
            self.improve(state, math.inf)
        self.forget()
        gc.collect()
        gc.freeze()

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
            if now + 1.2 * max(spent) + max(self._rest) > due:
                break
            best, invalid = next(rounds)
            valid, done = valid or invalid < size, done + 1
            spent.append(self.clock() - now)
            searching += spent[-1]
        if best is None:  # believe it a little less each time, so that one slow round is not the last
            self._spent[0], self._rest = (
                deque([0.97 * spent for spent in times], maxlen=50) for times in (self._spent[0], self._rest)
            )
            self.shift(1)
            return None, 0
        self.memory = best
        plan = np.asarray(self._planned(best))
        self._rest.append(self.clock() - began - searching)
        return (plan if valid else None), done


class Controller:
    """`planner` in `model`, a simulator or a `Model`, with an answer within `deadline_ms` of every question.

    `latency` is how many decisions the plant goes on while one is planned: 0 where it waits for the answer. `policy` is
    a function of the state; `safe` is an action [action] in [-1, 1], by default none. A plan is followed for at most
    `patience` decisions without being improved, by default as far as it reaches. `action_dim` is needed for a `Model`.
    """

    def __init__(
        self,
        model: Any,
        planner: Any,
        deadline_ms: float = 20.0,
        latency: int = 0,
        policy: Callable[[Any], np.ndarray] | None = None,
        safe: np.ndarray | None = None,
        patience: int | None = None,
        action_dim: int | None = None,
        seed: int = 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        if not deadline_ms > 0.0 or latency < 0:
            raise UsageError(f"deadline_ms must be positive and latency at least 0, not {deadline_ms} and {latency}")
        if isinstance(model, Model):
            if action_dim is None:
                raise UsageError("a Model does not say how many numbers an action has: action_dim is needed")
            self.look: Simulated | Modelled = Modelled(model, action_dim)
        else:
            self.look = Simulated(model)
        self.deadline, self.latency, self.policy, self.clock = deadline_ms / 1e3, latency, policy, clock
        self.safe = np.zeros(self.look.action_dim, np.float32) if safe is None else np.asarray(safe, np.float32)
        self.patience = planner.horizon if patience is None else min(patience, planner.horizon)
        self.anytime = Anytime(planner, self.look, seed, clock)
        self.record = Record(self.deadline)
        self.begin()

    def begin(self) -> None:
        """An episode begins: nothing of the last one is known any more."""
        self.anytime.forget()
        self._plan: np.ndarray | None = None
        self._age = 0
        self._ahead: deque[tuple[np.ndarray, int, Source]] = deque()  # decided, but not done yet

    def warm(self, state: Any) -> None:
        """Compile and time everything before the first question."""
        self.look.ahead(state, [self.safe] * max(1, self.latency))
        self.anytime.warm(state)
        self.begin()

    def act(self, state: Any) -> np.ndarray:
        """The action [action] to do in `state`. Until the first plan takes effect, that is the policy's or the safe
        one."""
        began = self.clock()
        while len(self._ahead) < self.latency:
            self._ahead.append(self.otherwise(state, self._age))
        start = self.look.ahead(state, [action for action, _, _ in self._ahead])
        plan, rounds = self.anytime.improve(start, began + self.deadline)
        self._age = self._age + 1 if plan is None else 0
        self._plan = self._plan if plan is None else plan
        self._ahead.append(self._decide(start))
        action, age, source = self._ahead.popleft()
        spent = self.clock() - began
        self.record.planning.append(spent)
        self.record.rounds.append(rounds)
        self.record.note(spent, age, source)
        return action

    def _decide(self, state: Any) -> tuple[np.ndarray, int, Source]:
        if self._plan is None or self._age >= self.patience:
            return self.otherwise(state, self._age)
        return self._plan[self._age], self._age, "shifted" if self._age else "planned"

    def otherwise(self, state: Any, age: int) -> tuple[np.ndarray, int, Source]:
        """Without a plan."""
        if self.policy is None:
            return self.safe, age, "safe"
        return np.asarray(self.policy(state), np.float32), age, "policy"


@dataclass(frozen=True)
class Dated:
    """A plan whose first action is for decision `start`; `asked` is the decision in whose state it was begun."""

    actions: np.ndarray
    start: int
    asked: int


class ThreadedController:
    """`controller`, planning in a thread of its own while the plant goes on; decisions are `period_ms` apart.

    `act` only leaves the newest state behind and reads the newest plan, by time. Entered for as long as it shall plan.
    """

    def __init__(self, controller: Controller, period_ms: float) -> None:
        self.controller, self.period = controller, period_ms / 1e3
        self.record = controller.record
        self._newest: tuple[int, Any] | None = None
        self._plans: tuple[Dated, ...] = ()  # the one that is done, and those that begin later
        self._tick, self._wake, self._over = 0, threading.Event(), False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "ThreadedController":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()

    def act(self, state: Any) -> np.ndarray:
        """The action [action] of this decision. Never waits for a plan. Raises what planning has raised."""
        if self._error is not None:
            raise self._error
        began, tick = self.controller.clock(), self._tick
        self._newest, self._tick = (tick, state), tick + 1
        self._wake.set()
        action, age, source = self._read(tick) or self.controller.otherwise(state, tick)
        self.record.note(self.controller.clock() - began, age, source)
        return action

    def _read(self, tick: int) -> tuple[np.ndarray, int, Source] | None:
        """What the newest plan that has begun by then has for a decision; its first action was planned for it."""
        plan = next((plan for plan in reversed(self._plans) if plan.start <= tick), None)
        if plan is None or tick - plan.start >= min(len(plan.actions), self.controller.patience):
            return None
        place = tick - plan.start
        return plan.actions[place], tick - plan.asked, "shifted" if place else "planned"

    def _work(self) -> None:
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._over:
                    return
                assert self._newest is not None
                self._replan(*self._newest)
        except BaseException as error:  # told to whoever drives the plant
            self._error = error

    def _replan(self, tick: int, state: Any) -> None:
        """Plan for the first decision that can still be met, from the state to which the running plan leads."""
        controller = self.controller
        began, last = controller.clock(), self._plans[-1] if self._plans else None
        slowest = max(self.record.planning[-20:], default=controller.deadline)
        start = tick + math.ceil(slowest / self.period)
        if last is not None and start <= last.start:
            return  # a plan for then is there
        between = [self._read(t) for t in range(tick, start)]
        ahead = controller.look.ahead(state, [controller.safe if answer is None else answer[0] for answer in between])
        if last is not None:
            controller.anytime.shift(start - last.start - 1)
        plan, rounds = controller.anytime.improve(ahead, began + controller.deadline)
        self.record.planning.append(controller.clock() - began)
        self.record.rounds.append(rounds)
        if plan is not None:
            begun = [other.start for other in self._plans if other.start <= self._tick]
            kept = [other for other in self._plans if not begun or other.start >= begun[-1]]
            self._plans = (*kept, Dated(plan, start, tick))
