"""The statistics of few runs, against analytic cases and SciPy."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from foreplan.insight.stats import bootstrap_interval, iqm, summarise


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 30])
def test_iqm_is_scipys_trimmed_mean(count) -> None:
    scores = np.random.default_rng(count).standard_cauchy(count)
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25))


def test_iqm_by_hand() -> None:
    assert iqm(np.array([1e9, 2.0, 4.0, -1e9])) == 3.0
    assert iqm(np.array([[0.0, 1.0], [2.0, 3.0]])) == 1.5


def test_interval_of_a_mean_is_the_normal_one() -> None:
    """Of n draws from N(0, 1) the mean's 95 % interval is +- 1.96 s / sqrt(n) about the sample's mean."""
    scores = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap_interval([scores], lambda x: float(np.mean(x)), repeats=4000)
    half = 1.96 * scores.std() / 20
    assert low == pytest.approx(scores.mean() - half, abs=0.008)
    assert high == pytest.approx(scores.mean() + half, abs=0.008)


def test_tasks_are_drawn_apart() -> None:
    """Runs within a task agree, tasks do not: drawn within tasks the mean cannot move, drawn over all it would."""
    tasks = [np.full(5, 0.0), np.full(5, 100.0)]
    assert bootstrap_interval(tasks, lambda x: float(np.mean(x))) == (50.0, 50.0)
    low, high = bootstrap_interval([np.concatenate(tasks)], lambda x: float(np.mean(x)))
    assert low < 30 < 70 < high


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval([rng.standard_normal(20)], repeats=200, seed=trial)
        covered += low <= 0.0 <= high
    assert 170 <= covered <= 198  # the percentile interval of 20 scores covers a little less than 95 %


def test_tasks_may_have_different_numbers_of_runs() -> None:
    middle, low, high = summarise([np.array([1.0, 2.0, 3.0]), np.array([2.0])])
    assert low <= middle == 2.0 <= high
