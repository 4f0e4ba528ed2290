"""Where the return is lost: parts that are spoilt on purpose must be named, and parts that are right cost nothing."""

import json
from pathlib import Path

import faulty
import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.insight import diagnosed
from foreplan.insight.attribution import alarms, attribute, by_magnitude, calibration, judged, verdict
from foreplan.planners.ilqr import ILQR
from foreplan.planners.splines import Splined
from foreplan.run.diagnose import Diagnosing, Episodes, Measured, diagnose, resized
from foreplan.run.foretold import to_go

BUDGET = Diagnosing(episodes=2, decisions=10, beyond=faulty.BEYOND, most=10**6)
PARTS = ["dynamics", "reward", "value", "planner"]


def measured(fault: str, settings: Diagnosing = BUDGET) -> Measured:
    return diagnose(*faulty.Faulty.of(fault), faulty.plant(settings.episodes), settings)


@pytest.mark.parametrize("fault", faulty.FAULTS)
def test_a_planted_fault_is_the_largest_loss(fault: str, tmp_path: Path) -> None:
    """And a part that is right costs nothing at all, for all stages share their random numbers."""
    found = measured(fault)
    lost = attribute(found.returns)
    assert lost.largest == fault
    assert list(lost.losses) == PARTS
    for part in PARTS[:3]:
        if part != fault:
            assert lost.losses[part].mean == pytest.approx(0.0, abs=1e-4)
    numbers = judged(found.foretold)
    assert (numbers["prediction"]["error"][0] < 1e-5) == (fault != "dynamics")
    assert (max(group["rmse"] for group in numbers["reward"]["by_magnitude"]) < 1e-5) == (fault != "reward")
    assert numbers["value"]["policy"]["slope"] == pytest.approx(0.5 if fault == "value" else 1.0, rel=0.1)


def test_the_page_and_its_numbers(tmp_path: Path) -> None:
    found = measured("value")
    document = diagnosed.report(tmp_path, "sledge", {"seed": 0}, found)
    assert json.loads((tmp_path / "diagnosis.json").read_text())["largest"] == document["largest"] == "value"
    html = (tmp_path / "diagnosis.html").read_text()
    assert "Most is lost to the value" in html
    assert html.count("data:image/png") == 3


def test_losses_sum_to_the_gap() -> None:
    random = np.random.default_rng(0)
    names = ["policy alone", "run", *PARTS]
    found = attribute({name: random.normal(size=7).tolist() for name in names})
    assert sum(loss.mean for loss in found.losses.values()) == pytest.approx(found.gap.mean, abs=1e-12)
    assert found.gap.mean == pytest.approx(found.stages["planner"].mean - found.stages["run"].mean, abs=1e-12)
    assert found.planning is not None
    assert found.planning.mean == pytest.approx(found.stages["run"].mean - found.stages["policy alone"].mean)


def test_what_is_said_of_the_losses() -> None:
    sure = attribute({"run": [1.0, 2.0, 3.0], "dynamics": [1.0, 2.0, 3.0], "reward": [3.0, 4.0, 5.1]})
    assert "Most is lost to the reward: 2.033" in verdict(sure)
    assert "doubt" not in verdict(sure)
    assert "in doubt" in verdict(attribute({"run": [1.0], "dynamics": [2.0]}))
    assert "not known" in verdict(attribute({"run": [1.0, 2.0]}))
    assert "earns no more" in verdict(attribute({"run": [1.0, 2.0], "dynamics": [0.5, 1.0]}))


def test_reward_by_magnitude_and_calibration() -> None:
    true = np.arange(100.0)
    groups = by_magnitude(true, true + np.where(true >= 80, 3.0, 0.0))
    assert [group["rmse"] for group in groups] == [0.0, 0.0, 0.0, 0.0, 3.0]
    assert [group["true"] for group in groups] == [9.5, 29.5, 49.5, 69.5, 89.5]
    doubled = calibration(true, 2.0 * true)
    assert doubled["slope"] == pytest.approx(0.5)
    assert doubled["correlation"] == pytest.approx(1.0)
    assert doubled["bias"] == pytest.approx(true.mean())


def test_an_exploited_model_raises_an_alarm() -> None:
    true = np.linspace(0.0, 1.0, 20)
    plans = {"imagined": true + 5.0, "policy": true, "true": true}
    (alarm,) = alarms(judged({"plans": plans}))
    assert "exploits the model: its plans promise 5.5, and 0.5 comes" in alarm
    assert alarms(judged({"plans": plans | {"imagined": true + 0.1}})) == []


def test_returns_to_come_stop_at_ends_and_are_unknown_before_a_cut() -> None:
    """(PITFALLS 1): the first episode terminates at its third step, the second is cut at its sixth."""
    running = np.ones((6, 2), bool)
    running[3:, 0] = False
    terminated = np.zeros((6, 2), bool)
    terminated[2, 0] = True
    nothing = np.zeros((6, 2, 1), np.float32)
    episodes = Episodes(nothing, nothing, np.ones((6, 2), np.float32), nothing, running, terminated)
    total, known = to_go(episodes, 0.5)
    np.testing.assert_allclose(total[:3, 0], [1.75, 1.5, 1.0])
    np.testing.assert_array_equal(known[:, 0], [True, True, True, False, False, False])
    assert total[0, 1] == pytest.approx(2.0, abs=0.04)
    np.testing.assert_array_equal(known[:, 1], [True, True, True, False, False, False])  # 0.5 ** 4 < 0.1


def test_planners_are_resized() -> None:
    planner = faulty.PLANNER
    assert resized(planner, times=10).num_samples == 640
    assert resized(planner, horizon=7).horizon == 7
    longer = resized(Splined(resized(planner, horizon=4), horizon=20), times=2, horizon=30)
    assert (longer.horizon, longer.planner.horizon, longer.planner.num_samples) == (30, 4, 128)
    with pytest.raises(UsageError, match="ILQR goes by no candidates"):
        resized(ILQR(), times=2)
