"""The controller: deadlines are kept by a clock that the test winds, plans are dated rightly, nobody waits."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.controller.controller import Controller
from foreplan.controller.threaded import ThreadedController
from foreplan.core.errors import UsageError
from foreplan.core.model import Model
from foreplan.envs import names as envs
from foreplan.insight.timing import report
from foreplan.planners.icem import ICEM
from foreplan.planners.ilqr import ILQR
from foreplan.sims import names as sims

PLANNER = ICEM(horizon=6, num_samples=64, iterations=4, num_elites=8, decay=1.0, exponent=0.0)


class Line(Model):
    """A point to be brought to the origin, a step of at most 0.5 at a time."""

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        after = state + 0.5 * action[0]
        return after, -(after**2), jnp.ones(())


class Hands:
    """A clock that goes on only where it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wound(cost: float, deadline_ms: float = 20.0, **options: Any) -> tuple[Controller, Hands]:
    """A controller each of whose rounds takes `cost` seconds."""
    hands = Hands()
    controller = Controller(Line(), PLANNER, deadline_ms, action_dim=1, clock=hands, **options)
    returns = controller.look._returns  # type: ignore[union-attr]

    def slow(*arguments: Any) -> Any:
        hands.now += hands.cost  # type: ignore[attr-defined]
        return returns(*arguments)

    hands.cost = cost  # type: ignore[attr-defined]
    controller.look._returns = slow  # type: ignore[union-attr]
    controller.warm(jnp.float32(1.0))
    return controller, hands


def drive(controller: Controller, decisions: int, start: float = 2.0) -> list[float]:
    """Where the point goes."""
    state, passed = start, [start]
    for _ in range(decisions):
        state += 0.5 * float(controller.act(jnp.float32(state))[0])
        passed.append(state)
    return passed


def test_with_time_enough_it_plans_all_rounds() -> None:
    controller, _ = wound(cost=0.001)
    passed = drive(controller, 12)
    assert passed[4] == pytest.approx(0.0, abs=0.2)
    assert abs(passed[-1]) < 0.15
    said = controller.record.summary()
    assert said["sources"] == {"planned": 12}
    assert said["rounds"] == {4: 12}
    assert said["missed"] == 0


@pytest.mark.parametrize(("cost", "rounds"), [(0.008, 2), (0.0149, 1)])
def test_short_of_time_it_takes_fewer_rounds_and_no_deadline_is_missed(cost: float, rounds: int) -> None:
    controller, _ = wound(cost)
    drive(controller, 10)
    said = controller.record.summary()
    assert said["rounds"] == {rounds: 10}
    assert said["missed"] == 0
    assert said["latency_ms"]["max"] <= 20.0


def test_without_time_for_a_round_it_goes_on_with_the_old_plan_then_the_policy_then_safely() -> None:
    """The first plan reaches six decisions; then nothing is known any more."""
    for policy, last in ((None, "safe"), (lambda state: np.array([0.25]), "policy")):
        controller, hands = wound(cost=0.001, policy=policy, safe=np.array([0.1]))
        state, taken = 2.0, []
        for turn in range(9):
            if turn == 1:
                hands.cost = 1.0  # type: ignore[attr-defined]
                controller.anytime._spent[0].extend([1.0] * 50)
            taken.append(float(controller.act(jnp.float32(state))[0]))
            state += 0.5 * taken[-1]
        assert controller.record.source == ["planned"] + ["shifted"] * 5 + [last] * 3
        assert controller.record.age == list(range(9))
        assert taken[-1] == pytest.approx(0.1 if policy is None else 0.25)
        assert controller.record.summary()["missed"] == 0


def test_a_plan_that_is_late_is_not_waited_for_and_is_the_next_decisions_old_one() -> None:
    """By the real clock: the fourth decision's search hangs for three times as long as there is."""
    controller = Controller(Line(), PLANNER, deadline_ms=300.0, action_dim=1)
    returns, hang = controller.look._returns, [0.0]  # type: ignore[union-attr]

    def hanging(*arguments: Any) -> Any:
        time.sleep(hang.pop() if hang else 0.0)
        return returns(*arguments)

    controller.look._returns = hanging  # type: ignore[union-attr]
    controller.warm(jnp.float32(1.0))
    drive(controller, 3)
    hang.append(0.9)
    drive(controller, 5)
    controller.begin()
    assert controller.record.source[:4] == ["planned"] * 3 + ["shifted"]
    assert controller.record.age[:5] == [0, 0, 0, 1, 2]
    assert controller.record.source[-2:] == ["planned"] * 2
    assert controller.record.summary()["latency_ms"]["max"] < 600.0


def test_what_a_late_search_raises_is_raised_by_the_next_question() -> None:
    controller = Controller(Line(), PLANNER, deadline_ms=50.0, action_dim=1)
    controller.warm(jnp.float32(1.0))

    def broken(state: Any, actions: Any) -> Any:
        time.sleep(0.2)
        raise RuntimeError("the model is gone")

    controller.look.ahead = broken  # type: ignore[method-assign]
    drive(controller, 1)
    time.sleep(0.3)
    with pytest.raises(RuntimeError, match="model is gone"):
        drive(controller, 1)


def test_a_plan_that_takes_time_begins_where_the_plant_will_be() -> None:
    """Two decisions late, and still there without overshooting: the start state is foretold."""
    controller, _ = wound(cost=0.001, latency=2)
    passed = drive(controller, 14)
    assert passed[:3] == [2.0, 2.0, 2.0]  # nothing is planned yet, the safe action does nothing
    assert passed[6] == pytest.approx(0.0, abs=0.2)
    assert min(passed) > -0.25
    assert controller.record.source == ["safe"] * 2 + ["planned"] * 12


def test_one_slow_round_changes_nothing() -> None:
    controller, _ = wound(cost=0.001)
    drive(controller, 20)
    controller.anytime._spent[0].append(0.1)
    drive(controller, 10)
    assert controller.record.summary()["rounds"] == {4: 30}


def test_slow_rounds_are_not_the_last() -> None:
    controller, _ = wound(cost=0.001)
    controller.anytime._spent[0].extend([0.1] * 50)
    drive(controller, 80)
    assert controller.record.source[0] == "safe"
    assert controller.record.source[-1] == "planned"


def test_synchronous_decisions_repeat_themselves() -> None:
    first, second = (drive(wound(cost=0.006)[0], 8) for _ in range(2))
    assert first == second


def test_an_episode_begins_anew() -> None:
    controller, _ = wound(cost=0.001)
    first = drive(controller, 3)
    controller.begin()
    controller.anytime._count -= 3  # the same random numbers again
    assert drive(controller, 3) == first


def test_it_balances_a_pole_in_a_simulator() -> None:
    plant = envs.build("dmc/cartpole-balance", 4)
    plant.reset(0)
    planner = ICEM(horizon=20, num_samples=24, iterations=2, num_elites=8)
    controller = Controller(sims.make("dmc/cartpole-balance", 4, threads=1), planner, 1e4, latency=1)
    controller.warm(plant.snapshot())
    before = plant.snapshot()["state"]["physics"]["state"]
    controller.act(plant.snapshot())
    np.testing.assert_array_equal(plant.snapshot()["state"]["physics"]["state"], before)
    total = sum(plant.step(controller.act(plant.snapshot()))[1] for _ in range(40))
    assert total > 0.9 * 4 * 40


def test_in_a_thread_nobody_waits_and_plans_are_read_by_time() -> None:
    """A round takes 30 ms here, a decision comes every 10: the plant's thread never waits for one."""
    controller = Controller(Line(), replace(PLANNER, horizon=60, iterations=1), deadline_ms=200.0, action_dim=1)
    returns = controller.look._returns  # type: ignore[union-attr]

    def slow(*arguments: Any) -> Any:
        time.sleep(0.03)
        return returns(*arguments)

    controller.look._returns = slow  # type: ignore[union-attr]
    controller.warm(jnp.float32(1.0))
    state = 2.0
    with ThreadedController(controller, period_ms=10.0) as threaded:
        for _ in range(100):
            began = time.perf_counter()
            state += 0.5 * float(threaded.act(jnp.float32(state))[0])
            assert time.perf_counter() - began < 0.5
            time.sleep(0.01)
        assert threading.active_count() > 1
    said = threaded.record.summary()
    assert said["decisions"] == 100
    assert {"planned", "shifted"} & said["sources"].keys()
    assert said["latency_ms"]["p50"] < 10.0


def test_what_planning_raises_reaches_the_plants_thread() -> None:
    controller = Controller(Line(), PLANNER, action_dim=1)
    controller.warm(jnp.float32(1.0))

    def broken(state: Any, actions: Any) -> Any:
        raise RuntimeError("the model is gone")

    controller.look.ahead = broken  # type: ignore[method-assign]
    with ThreadedController(controller, period_ms=1.0) as threaded, pytest.raises(RuntimeError, match="model is gone"):
        act_for_a_while(threaded)


def act_for_a_while(threaded: ThreadedController) -> None:
    for _ in range(1000):
        threaded.act(jnp.float32(1.0))
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"deadline_ms": 0.0}, "deadline_ms must be positive"),
        ({"latency": -1}, "latency at least 0"),
        ({"action_dim": None}, "action_dim is needed"),
        ({"planner": ILQR()}, "ILQR does not plan in rounds"),
    ],
)
def test_bad_input_gets_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Controller(**({"model": Line(), "planner": PLANNER, "action_dim": 1} | arguments))


def test_its_report_shows_times_ages_and_fallbacks(tmp_path: Path) -> None:
    controller, hands = wound(cost=0.001)
    drive(controller, 3)
    hands.cost = 1.0  # type: ignore[attr-defined]
    controller.anytime._spent[0].extend([1.0] * 50)
    drive(controller, 8)
    text = report(tmp_path, "test", controller.record).read_text()
    assert "11 decisions, deadline 20 ms, missed 0 times" in text
    for source, count in (("planned", 3), ("shifted", 5), ("safe", 3)):
        assert f"<td>{source}</td>" in text
        assert controller.record.source.count(source) == count
    assert "data:image/png" in text
