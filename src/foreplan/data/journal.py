"""What experts have said of visited states, one JSON object a line, in a file that only ever grows.

A label is written to disk before `add` returns, and a label with an id that is known already changes nothing: whoever
is not sure whether it arrived sends it again. What a crash leaves half written was never acknowledged; it is cut off
and said so.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreplan.core.errors import UsageError

VERDICTS = ("label", "skip", "bad")


@dataclass(frozen=True)
class Label:
    """One expert's answer to one state.

    "skip" says that the expert does not know, "bad" that the state should not be learned from; both have no action.
    """

    id: str  # made by whoever asks, unique
    state: str  # which state: the name of its snapshot, such as `round-003/17`
    obs: tuple[float, ...]
    policy_action: tuple[float, ...]  # what the policy would have done
    action: tuple[float, ...] | None  # what should be done; in a discrete space one-hot
    verdict: str  # of VERDICTS
    who: str  # "human:anna", "plan:icem", "run:runs/x", "callable:module:name"
    when: float  # seconds since 1970
    policy: str  # the version of the policy that visited the state, such as `step-000012000`
    seconds: float  # that the answer took

    def fault(self, obs_dim: int, action_dim: int) -> str | None:
        """What is wrong with it, "field: why", or None."""
        if not self.id:
            return "id: it is empty"
        if self.verdict not in VERDICTS:
            return f"verdict: {self.verdict!r}; accepted: {', '.join(VERDICTS)}"
        if (self.action is None) == (self.verdict == "label"):
            return f"action: {self.action} with the verdict {self.verdict!r}"
        if len(self.obs) != obs_dim:
            return f"obs: {len(self.obs)} numbers; {obs_dim} are needed"
        for name, action in (("policy_action", self.policy_action), ("action", self.action)):
            if action is not None and len(action) != action_dim:
                return f"{name}: {len(action)} numbers; {action_dim} are needed"
            if action is not None and not all(-1.0 <= value <= 1.0 for value in action):
                return f"{name}: {list(action)} leaves [-1, 1]"
        return None


class Journal:
    """The labels of a file, in the order in which they came; made where it does not exist."""

    def __init__(self, path: Path, obs_dim: int, action_dim: int, say: Callable[[str], None] = print) -> None:
        """Raises UsageError for a line that cannot be read, with file, line and field."""
        self.path, self._dims = path, (obs_dim, action_dim)
        self._labels: dict[str, Label] = {}
        self._undone: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.read_bytes() if path.is_file() else b""
        *whole, torn = written.split(b"\n")
        for number, line in enumerate(whole, start=1):
            self._read(number, line)
        self._file = path.open("ab")
        if torn:
            say(f"{path}: the last line was half written and is cut off: it was never acknowledged")
            self._file.truncate(len(written) - len(torn))

    def _read(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            if "undo" in record:
                self._undone.add(record["undo"])
                return
            label = _label(record)
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{self.path}, line {number} is no label: {' '.join(str(error).split())}") from None
        fault = label.fault(*self._dims)
        if fault is not None:
            raise UsageError(f"{self.path}, line {number}, {fault}")
        self._labels[label.id] = label

    @property
    def labels(self) -> list[Label]:
        """All that count, without those undone."""
        return [label for label in self._labels.values() if label.id not in self._undone]

    def knows(self, id: str) -> bool:
        """Whether there is a label of this id, also where it was taken back."""
        return id in self._labels

    def add(self, label: Label) -> bool:
        """Whether it is new. It is on the disk when this returns. Raises UsageError where it does not fit."""
        fault = label.fault(*self._dims)
        if fault is not None:
            raise UsageError(f"label {label.id!r}, {fault}")
        known = self._labels.get(label.id)
        if known is not None:
            return False
        self._write(dataclasses.asdict(label))
        self._labels[label.id] = label
        return True

    def undo(self, id: str) -> bool:
        """Take a label back: a line more, none less. Whether there was one to take back."""
        if id not in self._labels or id in self._undone:
            return False
        self._write({"undo": id, "when": time.time()})
        self._undone.add(id)
        return True

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _label(record: dict[str, Any]) -> Label:
    fields = {field.name for field in dataclasses.fields(Label)}
    if record.keys() != fields:
        raise ValueError(f"its fields are {', '.join(sorted(record))}; needed are {', '.join(sorted(fields))}")
    vectors = {name: tuple(map(float, record[name])) for name in ("obs", "policy_action")}
    action = None if record["action"] is None else tuple(map(float, record["action"]))
    return Label(**record | vectors | {"action": action})
