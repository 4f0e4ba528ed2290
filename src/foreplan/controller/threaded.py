"""A controller that plans in a thread of its own while the plant goes on."""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreplan.controller.controller import Controller
from foreplan.controller.record import Source


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
