"""Control in real time: an answer is always there when it is due, planned or not.

A decision is the first of these that there is, and which it was is counted:

    planned   a plan that was improved for this very decision, in as many rounds as there was time for
    shifted   the last plan that was improved, as far as it reaches
    policy    what a policy does
    safe      an action that does no harm

Planning takes time, in which the plant goes on. So a plan is made for a state `latency` decisions ahead, foretold by
doing what is going to be done until then. `Controller` plans while it is asked, `ThreadedController` all the time, so
that whoever drives the plant never waits.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from foreplan.controller.anytime import Anytime, Clock, Modelled, Simulated
from foreplan.controller.record import Record, Source
from foreplan.core.errors import UsageError
from foreplan.core.model import Model

MARGIN = 1e-3  # seconds before the deadline at which an answer is given without waiting any longer, at most


class Planned(NamedTuple):
    """What a search has found: the state it began in, the plan [horizon, action], if any, and its number of rounds."""

    start: Any
    plan: np.ndarray | None
    rounds: int


class Controller:
    """`planner` in `model`, a simulator or a `Model`, with an answer within `deadline_ms` of every question.

    `latency` is how many decisions the plant goes on while one is planned: 0 where it waits for the answer. `policy` is
    a function of the state; `safe` is an action [action] in [-1, 1], by default none. A plan is followed for at most
    `patience` decisions without being improved, by default as far as it reaches. `action_dim` is needed for a `Model`.

    Planning is done in a thread, which is not waited for beyond the deadline: what it finds late is the next decision's
    old plan. With a `clock` of one's own it is done within the call, so that decisions repeat themselves.
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
        clock: Clock | None = None,
    ) -> None:
        if not deadline_ms > 0.0 or latency < 0:
            raise UsageError(f"deadline_ms must be positive and latency at least 0, not {deadline_ms} and {latency}")
        if isinstance(model, Model):
            if action_dim is None:
                raise UsageError("a Model does not say how many numbers an action has: action_dim is needed")
            self.look: Simulated | Modelled = Modelled(model, action_dim)
        else:
            self.look = Simulated(model)
        self.deadline, self.latency, self.policy = deadline_ms / 1e3, latency, policy
        self._margin = min(MARGIN, 0.1 * self.deadline)
        self.clock = time.perf_counter if clock is None else clock
        self._thread = ThreadPoolExecutor(1, "planning") if clock is None else None
        self._late: Future[Planned] | None = None
        self.safe = np.zeros(self.look.action_dim, np.float32) if safe is None else np.asarray(safe, np.float32)
        self.patience = planner.horizon if patience is None else min(patience, planner.horizon)
        self.anytime = Anytime(planner, self.look, seed, self.clock)
        self.record = Record(self.deadline)
        self.begin()

    def begin(self) -> None:
        """An episode begins: nothing of the last one is known any more."""
        if self._late is not None:
            self._late.exception()  # waits for it
        self._late = None
        self.anytime.forget()
        self._plan: np.ndarray | None = None
        self._age = 0
        self._skipped = 0  # decisions for which planning has not even begun
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
        found = self._improved(state, began + self.deadline)
        self._age = self._age + 1 if found.plan is None else 0
        self._plan = self._plan if found.plan is None else found.plan
        self._ahead.append(self._decide(found.start))
        action, age, source = self._ahead.popleft()
        spent = self.clock() - began
        self.record.planning.append(spent)
        self.record.rounds.append(found.rounds)
        self.record.note(spent, age, source)
        return action

    def _improved(self, state: Any, due: float) -> Planned:
        """The plan for this decision, if there is one when it is due; if not, `state` stands for where it begins."""
        if self._late is not None:
            late = self._await(self._late, due)
            if late is None:
                self._skipped += 1
                return Planned(state, None, 0)
            if late.plan is not None:
                self._plan, self._age = late.plan, self._skipped
        between, skipped = [action for action, _, _ in self._ahead], self._skipped
        self._late, self._skipped = None, 0
        if self._thread is None:
            return self._search(state, between, skipped, due)
        self._late = self._thread.submit(self._search, state, between, skipped, due)
        found = self._await(self._late, due)
        self._late = self._late if found is None else None
        return found or Planned(state, None, 0)

    def _search(self, state: Any, between: list[np.ndarray], skipped: int, due: float) -> Planned:
        start = self.look.ahead(state, between)
        self.anytime.shift(skipped)
        return Planned(start, *self.anytime.improve(start, due))

    def _await(self, search: "Future[Planned]", due: float) -> Planned | None:
        """What a search has found, or None where it is not over in time. Raises what it has raised."""
        wait([search], max(0.0, due - self._margin - self.clock()))
        return search.result() if search.done() else None

    def _decide(self, state: Any) -> tuple[np.ndarray, int, Source]:
        if self._plan is None or self._age >= self.patience:
            return self.otherwise(state, self._age)
        return self._plan[self._age], self._age, "shifted" if self._age else "planned"

    def otherwise(self, state: Any, age: int) -> tuple[np.ndarray, int, Source]:
        """Without a plan."""
        if self.policy is None:
            return self.safe, age, "safe"
        return np.asarray(self.policy(state), np.float32), age, "policy"
