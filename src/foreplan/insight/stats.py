"""Statistics of few runs (Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021).

A few seeds say little: so the interquartile mean, which outliers do not move as they move the mean, and which uses more
of the data than the median does; and an interval, by drawing runs anew within each task (a stratified bootstrap).
"""

from collections.abc import Callable, Sequence

import numpy as np

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5 %, of 1 to 10 degrees

Scores = Sequence[np.ndarray]  # for each task, the scores of its runs; tasks may have different numbers of runs


def iqm(scores: np.ndarray) -> float:
    """The interquartile mean: of all the scores together, without the lowest and the highest quarter (rounded down)."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def bootstrap_interval(
    scores: Scores,
    statistic: Callable[[np.ndarray], float] = iqm,
    confidence: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of `statistic` of all scores, when the runs of each task are drawn anew, with
    replacement, from that task's own. A single run in every task gives an interval of no width, which means nothing."""
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([rng.choice(np.asarray(task, np.float64), (repeats, len(task))) for task in scores], axis=1)
    values = [statistic(sample) for sample in drawn]
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)


def summarise(scores: Scores) -> tuple[float, float, float]:
    """(interquartile mean, low, high) with its 95 % interval."""
    return iqm(np.concatenate(list(scores))), *bootstrap_interval(scores)


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, within 0.03."""
    return STUDENT[degrees - 1] if degrees <= len(STUDENT) else 1.96 + 2.4 / degrees
