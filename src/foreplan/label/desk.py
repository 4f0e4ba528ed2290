"""The desk at which people label: what is asked, of whom, and what is accepted as an answer.

Each state is handed out once: it is leased to one page, which keeps it by asking for more or by saying that it is still
there. Every answer is in the journal, on the disk, before it is acknowledged, and one that is sent again changes
nothing. What is not accepted is refused with a reason. Any thread may call any method.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foreplan.core.errors import nearest
from foreplan.core.spec import Spec
from foreplan.data.journal import VERDICTS, Journal, Label
from foreplan.label.visits import Policy, Visit

LEASE = 60.0  # seconds that a page may be silent before its states go to others
CLOSE = 0.1  # in every entry, in [-1, 1]: a label this near to the policy's action agrees with it
RECENT = 20  # labels that the seconds a label are of


class Refused(Exception):
    """An answer that is not accepted: the HTTP status, and the reason in one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Lease:
    page: str
    until: float


@dataclass
class Queue:
    """The states that are asked about now, in order, all visited by one policy."""

    policy: Policy
    visits: dict[str, Visit]
    ready: set[str] = field(default_factory=set)  # whose pictures are made
    leases: dict[str, Lease] = field(default_factory=dict)


class Desk:
    def __init__(self, journal: Journal, spec: Spec, clock: Callable[[], float] = time.monotonic) -> None:
        self.journal, self.spec, self._clock = journal, spec, clock
        self._lock = threading.RLock()
        self._answered = {label.state: label for label in journal.labels}
        self._pages: dict[str, str] = {}  # which page gave the label of this id
        self.queue: Queue | None = None

    def ask(self, policy: Policy, visits: Sequence[Visit]) -> None:
        """From now on ask about these states; what was asked before is no longer accepted."""
        with self._lock:
            self.queue = Queue(policy, {visit.id: visit for visit in visits})

    def make_ready(self, state: str) -> None:
        with self._lock:
            self._queue.ready.add(state)

    @property
    def _queue(self) -> Queue:
        assert self.queue is not None, "nothing has been asked yet"
        return self.queue

    # ------------------------------------------------------------------ handing out
    def lease(self, page: str, holding: Sequence[str], want: int) -> tuple[list[Visit], list[str]]:
        """(`want` states at most for `page` that it does not hold yet, those of `holding` that it must give up).

        A page that was reloaded holds nothing, and gets first what was already leased to it.
        """
        with self._lock:
            queue, now = self._queue, self._clock()
            lost = [state for state in holding if not self._free(state, page, now)]
            for state in set(holding) - set(lost):
                queue.leases[state] = Lease(page, now + LEASE)
            open_ = [id for id in queue.visits if id in queue.ready and id not in holding and self._free(id, page, now)]
            mine = [id for id in open_ if id in queue.leases and queue.leases[id].page == page]
            given = [*mine, *(id for id in open_ if id not in mine)][:want]
            for state in given:
                queue.leases[state] = Lease(page, now + LEASE)
            return [queue.visits[state] for state in given], lost

    def _free(self, state: str, page: str, now: float) -> bool:
        """Whether `page` may have the state: it is asked about, open, and no other page's."""
        lease = self._queue.leases.get(state)
        others = lease is not None and lease.page != page and lease.until > now
        return state in self._queue.visits and state not in self._answered and not others

    # ------------------------------------------------------------------ answers
    def visit(self, state: Any, policy: Any) -> Visit:
        """The state that an answer or a preview is about. Raises Refused for an old policy's or an unknown one."""
        queue = self._queue
        if policy != queue.policy.version:
            raise Refused(409, f"{queue.policy.version} has replaced {policy}: this state is no longer asked about")
        if not isinstance(state, str) or state not in queue.visits:
            raise Refused(404, f"unknown state {state!r}: it is not among those asked about")
        return queue.visits[state]

    def action(self, values: Any) -> tuple[float, ...]:
        """An action as it came from a page. Raises Refused where it is not one."""
        size = self.spec.action_dim
        if not isinstance(values, list) or len(values) != size:
            raise Refused(422, f"action is {values!r}; accepted: a list of {size} numbers")
        for index, value in enumerate(values):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not -1.0 <= value <= 1.0:
                raise Refused(422, f"action[{index}] is {value!r}; accepted: numbers from -1 to 1")
        if self.spec.discrete and sorted(values) != [0.0] * (size - 1) + [1.0]:
            raise Refused(422, f"action is {values!r}; accepted: one 1 among {size - 1} zeros")
        return tuple(float(value) for value in values)

    def answer(self, message: Mapping[str, Any]) -> bool:
        """Write a label down; False where it was known already. Raises Refused."""
        id, verdict, page = (_word(message, name) for name in ("id", "verdict", "page"))
        with self._lock:
            if self.journal.knows(id):
                return False
            if verdict not in VERDICTS:
                match = nearest(verdict, VERDICTS)
                hint = f"; did you mean {match!r}?" if match else ""
                raise Refused(422, f"unknown verdict {verdict!r}{hint} (accepted: {', '.join(VERDICTS)})")
            visit = self.visit(message.get("state"), message.get("policy"))
            action = self.action(message.get("action")) if verdict == "label" else None
            if visit.id in self._answered:
                raise Refused(409, "this state has been labelled already")
            if not self._free(visit.id, page, self._clock()):
                raise Refused(409, "this state was handed to someone else while you were away")
            label = Label(
                id=id,
                state=visit.id,
                obs=tuple(map(float, visit.obs)),
                policy_action=tuple(map(float, visit.action.clip(-1.0, 1.0))),
                action=action,
                verdict=verdict,
                who=f"human:{_word(message, 'who')}",
                when=time.time(),
                policy=self._queue.policy.version,
                seconds=_seconds(message.get("seconds")),
            )
            self.journal.add(label)
            self._pages[id] = page
            self._answered[visit.id] = label
            return True

    def undo(self, message: Mapping[str, Any]) -> bool:
        """Take a label back, and hand its state to the page again; False where that was done already."""
        id, page = _word(message, "undo"), _word(message, "page")
        with self._lock:
            if not self.journal.knows(id):
                raise Refused(404, f"there is no label {id!r} to take back")
            if self._pages.get(id, page) != page:
                raise Refused(409, "this label is someone else's")
            if not self.journal.undo(id):
                return False
            state = next(state for state, label in self._answered.items() if label.id == id)
            del self._answered[state]
            self._queue.leases[state] = Lease(page, self._clock() + LEASE)
            return True

    def is_open(self, state: str) -> bool:
        """Whether nobody has answered yet."""
        with self._lock:
            return state not in self._answered

    # ------------------------------------------------------------------ numbers
    def labels(self) -> list[Label]:
        """All labels with an action: what there is to learn from."""
        with self._lock:
            return [label for label in self.journal.labels if label.verdict == "label"]

    def counts(self) -> dict[str, Any]:
        """What the page always shows of the labels."""
        with self._lock:
            labels = self.journal.labels
            done = [label for label in labels if label.verdict == "label"]
            recent = [label.seconds for label in labels[-RECENT:]]
            return {
                "done": len(done),
                "skipped": len(labels) - len(done),
                "left": sum(state not in self._answered for state in self._queue.visits),
                "asked": len(self._queue.visits),
                "seconds": sum(recent) / len(recent) if recent else None,
                "agreement": sum(map(agrees, done)) / len(done) if done else None,
            }


def agrees(label: Label) -> bool:
    """Whether the policy would have done the same, or nearly: see CLOSE; in a discrete space the same."""
    assert label.action is not None
    return all(abs(ours - theirs) <= CLOSE for ours, theirs in zip(label.action, label.policy_action, strict=True))


def _word(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise Refused(422, f"{name} is {value!r}; accepted: a word of at most 100 letters")
    return value


def _seconds(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return min(max(float(value), 0.0), 3600.0) if number else 0.0
