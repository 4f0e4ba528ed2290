"""Retraining beside the labelling: one at a time, in a thread of its own, with a curve that can be read meanwhile."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from foreplan.data.journal import Label
from foreplan.insight.stats import bootstrap_interval
from foreplan.label.visits import Policy

Report = Callable[[float, float], None]  # epochs so far, loss on what was held out
Fit = Callable[[Policy, Sequence[Label], Report], Policy]
Returns = Callable[[Policy], list[float]]  # of evaluation episodes, always the same ones
Phase = Literal["idle", "fitting", "evaluating", "ready", "failed"]


@dataclass
class Attempt:
    """One retraining."""

    labels: int
    phase: Phase = "fitting"
    curve: list[tuple[float, float]] = field(default_factory=list)
    candidate: Policy | None = None
    before: list[float] = field(default_factory=list)  # returns of the policy that it would replace
    after: list[float] = field(default_factory=list)
    error: str = ""

    def report(self, epoch: float, loss: float) -> None:
        """A point of the curve, if it is one."""
        if math.isfinite(loss):
            self.curve.append((epoch, loss))

    def record(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "phase": self.phase,
            "labels": self.labels,
            "curve": self.curve,
            "before": summary(self.before),
            "after": summary(self.after),
            "better": better(self.before, self.after),
            "error": self.error,
        }


class Retraining:
    """`done` hears of every attempt that has ended in a candidate."""

    def __init__(self, fit: Fit, returns: Returns, done: Callable[[Attempt], None]) -> None:
        self._fit, self._returns, self._done = fit, returns, done
        self._thread: threading.Thread | None = None
        self.attempt: Attempt | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, policy: Policy, labels: Sequence[Label]) -> None:
        self.attempt = Attempt(len(labels))
        self._thread = threading.Thread(target=self._run, args=(self.attempt, policy, labels), daemon=True)
        self._thread.start()

    def _run(self, attempt: Attempt, policy: Policy, labels: Sequence[Label]) -> None:
        try:
            candidate = self._fit(policy, labels, attempt.report)
            attempt.phase = "evaluating"
            attempt.before, attempt.after = self._returns(policy), self._returns(candidate)
            attempt.candidate = candidate
            self._done(attempt)
            attempt.phase = "ready"
        except Exception as error:  # whatever it was, people go on labelling
            attempt.error = " ".join(f"{type(error).__name__}: {error}".split())
            attempt.phase = "failed"

    def forget(self) -> None:
        self.attempt = None

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()


def summary(returns: Sequence[float]) -> dict[str, Any] | None:
    """Mean return, and its 95 % interval where there are episodes enough to speak of one."""
    if not returns:
        return None
    values = np.asarray(returns, np.float64)
    low, high = bootstrap_interval([values], np.mean) if len(values) > 1 else (None, None)
    return {"mean": float(values.mean()), "low": low, "high": high, "episodes": len(values)}


def better(before: Sequence[float], after: Sequence[float], repeats: int = 4000) -> float | None:
    """The confidence that the mean return has risen: the share of bootstrap samples in which it has. Episodes that
    began alike are drawn together. That all n of them rise happens by chance once in 2^n: so never more than 1 - 2^-n.
    """
    if not before or len(before) != len(after):
        return None
    gain = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    drawn = np.random.default_rng(0).choice(gain, (repeats, len(gain))).mean(axis=1)
    share = float((drawn > 0).mean() + 0.5 * (drawn == 0).mean())
    return min(share, 1.0 - 0.5 ** len(gain))
