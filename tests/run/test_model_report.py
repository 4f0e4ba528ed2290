"""The report on a learned model, of episodes whose errors are known."""

from typing import Any

import numpy as np
import pytest

from foreplan.insight.model_report import model_report, open_loop


def film(wrong: np.ndarray, spread: float = 0.0, decisions: int = 200, every: int = 25) -> dict[str, Any]:
    """An episode whose observations were foretold `wrong` [every, 2] too high, within `spread` on either side."""
    rng = np.random.default_rng(0)
    obs = np.stack([np.sin(np.arange(decisions) / 20), rng.normal(size=decisions)], axis=1)
    after = np.concatenate([obs[1:], obs[-1:]])
    foretold = after + np.tile(wrong, (decisions // every, 1))
    return {
        "obs": obs,
        "imagined_obs": foretold,
        "imagined_low": foretold - spread,
        "imagined_high": foretold + spread,
        "imagined_every": np.array(every),
    }


def test_errors_are_by_steps_ahead_in_standard_deviations() -> None:
    growing = np.stack([np.arange(25) / 100, np.zeros(25)], axis=1)
    episode = film(growing)
    found = open_loop(episode)
    assert found is not None
    np.testing.assert_allclose(found.error[:, 0], np.arange(25) / 100 / episode["obs"][:, 0].std(), atol=1e-9)
    np.testing.assert_allclose(found.error[:, 1], 0.0, atol=1e-9)
    assert found.coverage is None  # no interval at all
    assert found.still[0, 0] < 0.2 < 0.6 < found.still[0, 1]  # a slow sine, and noise


def test_coverage_is_the_share_within_the_interval() -> None:
    found = open_loop(film(np.stack([np.full(25, 0.1), np.full(25, 0.3)], axis=1), spread=0.2))
    assert found is not None
    assert found.coverage is not None
    np.testing.assert_array_equal(found.coverage, np.tile([1.0, 0.0], (25, 1)))


def test_what_cannot_be_predicted_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """(PITFALLS 30)"""
    episode = film(np.stack([np.zeros(25), np.full(25, 3.0)], axis=1), spread=0.1)
    found = open_loop(episode)
    assert found is not None
    assert found.unpredictable == [1]
    (section,) = model_report(tmp_path, episode)
    assert "no better than by the mean or by the last value: observation 1." in section
    assert (tmp_path / "plots" / "model.png").is_file()


@pytest.mark.parametrize("missing", ["imagined_obs", "length"])
def test_an_agent_without_such_a_model_has_no_report(missing: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    episode = film(np.zeros((25, 2)))
    if missing == "imagined_obs":
        del episode["imagined_obs"]
    else:
        episode = {name: value[:25] if name != "imagined_every" else value for name, value in episode.items()}
    assert model_report(tmp_path, episode) == []
