"""Where the return is lost: parts that are spoilt on purpose must be named, and parts that are right cost nothing."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import PLAIN_SAC, SMALL_PETS, TD_MPC2

from foreplan.agents.exchanged import Exchanged, traits
from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.core.model import returns
from foreplan.core.types import Spec
from foreplan.envs import names
from foreplan.insight import diagnosed
from foreplan.insight.attribution import (
    Amount,
    alarms,
    attribute,
    by_magnitude,
    calibration,
    judged,
    verdict,
)
from foreplan.insight.stats import student
from foreplan.planners.ilqr import ILQR
from foreplan.planners.splines import Splined
from foreplan.run.diagnose import Diagnosing, Episodes, Measured, beside, diagnose, exchanged, resized
from foreplan.run.foretold import to_go
from foreplan.sims import truth

BUDGET = Diagnosing(episodes=2, decisions=10, beyond=faulty.BEYOND, most=10**6)
PARTS = ["dynamics", "reward", "value", "planner"]


def measured(fault: str) -> Measured:
    return diagnose(*faulty.Faulty.of(fault), faulty.plant(BUDGET.episodes), BUDGET)


@pytest.mark.parametrize("depths", [None, (0.5, 0.0, 0.25, 0.25)])
@pytest.mark.parametrize("true", [(), ("reward",), ("reward", "value")])
def test_with_the_true_model_every_part_scores_alike(
    true: tuple[str, ...], depths: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the one formula, `core.model.returns`."""
    jax.clear_caches()  # what was compiled knows another way to cut plans
    monkeypatch.setattr(faulty.Believed, "depths", lambda model, horizon: depths and jnp.array(depths, jnp.float32))
    agent, learner = faulty.Faulty.of("planner")
    with closing(faulty.plant(2)) as plant:
        obs = np.asarray(plant.reset(0).obs)
        view = Exchanged(agent, truth.make(plant), traits(agent, learner, obs[0]), true, faulty.BEYOND)
        actions = np.random.default_rng(0).uniform(-1, 1, (5, 4, 1)).astype(np.float32)
        found = view.score(learner, obs[1], 1, jax.random.key(0), actions)
    model, key = faulty.Believed(learner), jax.random.key(0)
    formula = jax.vmap(lambda plan: returns(model, obs[1], plan, key))(actions)
    np.testing.assert_allclose(found, formula, rtol=1e-5)


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
    imagined = found.foretold["prediction"]
    if fault != "dynamics":
        np.testing.assert_array_equal(imagined["like"], imagined["time"])  # the nearest moment is the one foretold
    assert (max(group["rmse"] for group in numbers["reward"]["by_magnitude"]) < 1e-5) == (fault != "reward")
    assert numbers["value"]["policy"]["slope"] == pytest.approx(0.5 if fault == "value" else 1.0, rel=0.1)


def test_the_page_and_its_numbers(tmp_path: Path) -> None:
    found = measured("value")
    document = diagnosed.report(tmp_path, "sledge", {"seed": 0}, found)
    assert json.loads((tmp_path / "diagnosis.json").read_text())["largest"] == document["largest"] == "value"
    html = (tmp_path / "diagnosis.html").read_text()
    assert "Most is lost to the value" in html
    assert html.count("data:image/png") == 3


@pytest.mark.parametrize(
    ("agent", "env", "notes", "stages"),
    [
        (TD_MPC2, "dmc/cartpole-swingup", ["what the policy earns in 2 decisions"], ["policy alone", "run", *PARTS]),
        pytest.param(
            SMALL_PETS,
            "jax/pendulum",
            ["no policy", "no value", "longer by 2"],
            ["run", *PARTS],
            marks=pytest.mark.slow,
        ),
        (PLAIN_SAC, "jax/pendulum", ["acts by its policy"], ["run", "policy"]),
    ],
    ids=["mujoco", "ensemble", "policy"],
)
def test_what_can_be_computed_is_computed(agent: Any, env: str, notes: list[str], stages: list[str]) -> None:
    """Of agents that have learned nothing."""
    settings = Diagnosing(episodes=1, decisions=2, beyond=2, whole=30)
    with closing(names.make(env)) as plant:
        learner = jax.jit(lambda key: agent.init(plant.spec, key))(jax.random.key(0))
        found = diagnose(agent, learner, plant, settings)
    for said in notes:
        assert any(said in note for note in found.notes), found.notes
    assert list(found.returns) == stages
    assert np.isfinite([value for values in found.returns.values() for value in values]).all()


@pytest.mark.parametrize("propagation", ["ts-inf", "ts-1"])
def test_a_value_is_seen_where_there_is_one(propagation: Any) -> None:
    for value, discount in (("none", 1.0), ("td", 0.9)):
        agent = replace(SMALL_PETS, propagation=propagation, value=value, discount=0.9)
        learner = agent.init(Spec(obs_shape=(3,), action_dim=1), jax.random.key(0))
        has = traits(agent, learner, np.zeros(3, np.float32))
        assert (has.policy, has.value, has.discount) == (False, value != "none", pytest.approx(discount))


def test_an_imagined_moment_stands_beside_the_real_one(tmp_path: Path) -> None:
    frames = [np.full((4, 6, 3), shade, np.uint8) for shade in (10, 20, 30)]
    one, two = beside(frames, {"time": np.array([0, 2]), "like": np.array([1, 0])})
    assert one.shape == (4, 12, 3)
    assert (one[0, 0, 0], one[0, -1, 0], two[0, 0, 0], two[0, -1, 0]) == (10, 20, 30, 10)
    assert beside([], {"time": np.array([0]), "like": np.array([0])}) == []


def test_losses_sum_to_the_gap() -> None:
    random = np.random.default_rng(0)
    stages = ["policy alone", "run", *PARTS]
    found = attribute({name: random.normal(size=7).tolist() for name in stages})
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


def test_intervals_are_students() -> None:
    found = Amount.of(np.array([8.0, 9.0]))
    assert (found.low, found.high) == (pytest.approx(8.5 - 12.706 * 0.5), pytest.approx(8.5 + 12.706 * 0.5))
    assert Amount.of(np.array([8.0])).low is None
    for degrees in (1, 5, 10, 11, 15, 30, 100):
        assert student(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), abs=0.03)


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
    total, known = to_go(episodes, 1.0, horizon=2)
    np.testing.assert_allclose(total[:, 1], [2.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    np.testing.assert_array_equal(known.sum(axis=0), [3, 5])


def test_without_a_simulator_the_rest_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*about: Any) -> None:
        raise UsageError("it cannot be rolled back")

    monkeypatch.setattr(truth, "make", refuse)
    found = measured("reward")
    assert list(found.returns) == ["policy alone", "run"]
    assert found.notes == ["no oracle: it cannot be rolled back"]
    document = diagnosed.report(tmp_path, "sledge", {}, found)
    assert "the gap is not known" in document["verdict"]
    assert {"prediction", "reward", "value", "plans"} <= document["foretold"].keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nowhere"], "nowhere is not a run directory"), (["nowhere", "--episodes", "0"], "episodes is 0")],
)
def test_bad_input_gets_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def test_a_budget_too_large_is_cut_and_said() -> None:
    agent, learner = faulty.Faulty.of("planner")
    heard: list[str] = []
    with closing(faulty.plant(1)) as plant:
        has = traits(agent, learner, plant.reset(0).obs[0])
        actors = exchanged(agent, has, truth.make(plant), Diagnosing(most=30), heard.append)
    assert [actors[part].planner.num_samples for part in PARTS] == [8, 8, 8, 24]
    assert "planner: 3 times the candidates, not 10: --most allows 30 a decision" in heard


def test_planners_are_resized() -> None:
    planner = faulty.PLANNER
    assert resized(planner, times=10).num_samples == 640
    assert resized(planner, horizon=7).horizon == 7
    longer = resized(Splined(resized(planner, horizon=4), horizon=20), times=2, horizon=30)
    assert (longer.horizon, longer.planner.horizon, longer.planner.num_samples) == (30, 4, 128)
    with pytest.raises(UsageError, match="ILQR goes by no candidates"):
        resized(ILQR(), times=2)
