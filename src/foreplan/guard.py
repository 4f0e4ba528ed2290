"""The guard: a new controller replaces the old one only where it is better with the confidence that is asked for."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.insight.stats import bootstrap_interval
from foreplan.run.saved import Saved

FILE = "guard.json"  # of the new run


@dataclass(frozen=True)
class Judgement:
    """Returns of the same episodes: same seeds, same first states. `low` is the least difference that the confidence
    leaves; the new one is accepted where that is above 0."""

    new: list[float]
    old: list[float]
    confidence: float
    low: float
    accepted: bool

    def __str__(self) -> str:
        verdict = "accepted" if self.accepted else "refused; the incumbent stays"
        gain = np.mean(self.new) - np.mean(self.old)
        return f"better by {gain:.2f}, by {self.low:.2f} at least with confidence {self.confidence:g}: {verdict}"


def judge(new: list[float], old: list[float], confidence: float) -> Judgement:
    """By a one-sided bootstrap interval of the mean difference, episode by episode (Efron and Tibshirani 1993,
    chapter 13)."""
    difference = np.subtract(new, old)
    low, _ = bootstrap_interval([difference], lambda x: float(np.mean(x)), confidence=2.0 * confidence - 1.0)
    return Judgement(list(new), list(old), confidence, low, low > 0.0)


def guard(new: Path, incumbent: Path, episodes: int, confidence: float) -> Judgement:
    """Evaluate both runs' newest policies, and write the judgement into the new run. Raises UsageError."""
    check(incumbent, confidence)
    mine, theirs = Saved.open(new), Saved.open(incumbent)
    if mine.settings.env != theirs.settings.env:
        raise UsageError(f"{incumbent} acts in {theirs.settings.env}, and {new} in {mine.settings.env}")
    found = judge(mine.evaluate(episodes).returns, theirs.evaluate(episodes).returns, confidence)
    (new / FILE).write_text(json.dumps({"incumbent": str(incumbent)} | asdict(found)) + "\n")
    return found


def check(incumbent: Path, confidence: float) -> None:
    """Before anything is trained: is there an incumbent, and is the confidence one?"""
    if not 0.5 < confidence < 1.0:
        raise UsageError(f"confidence is {confidence}; accepted: numbers between 0.5 and 1")
    Saved.open(incumbent)
