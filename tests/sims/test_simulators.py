"""Simulators to plan in: exact, separate from the plant, honest about what they cannot do."""

import copy

import mujoco
import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.envs import names as envs
from foreplan.envs.physics import INTEGRATION
from foreplan.planners.risk import CVaR
from foreplan.sims import names as sims
from foreplan.sims.engine import Engine
from foreplan.sims.mujoco import MujocoSimulator, Task, merged
from foreplan.sims.rollout import Rollout, scorer
from foreplan.sims.stepping import SteppingSimulator


def upright(before, action, after):  # type: ignore[no-untyped-def]
    return np.cos(after.angle("hinge_1"))


def candidates(name: str, number: int = 3, horizon: int = 8) -> tuple:
    """(plant in the middle of an episode, actions)"""
    plant, rng = envs.build(name), np.random.default_rng(0)
    plant.reset(1)
    for _ in range(5):
        plant.step(rng.uniform(-1, 1, plant.spec.action_dim).astype(np.float32))
    return plant, rng.uniform(-1, 1, (number, horizon, plant.spec.action_dim)).astype(np.float32)


@pytest.mark.parametrize("task", ["walker-walk", "hopper-hop", "acrobot-swingup"])
def test_a_rollout_is_bit_for_bit_what_the_plant_does(task: str) -> None:
    plant, actions = candidates(f"dmc/{task}")
    physics, substeps = plant.adapter.physics, plant.adapter.env._n_sub_steps
    engine = Engine(physics.model, substeps, refreshes=True, threads=2)
    row = plant.snapshot()["state"]["physics"]["state"]
    controls = np.repeat(actions, 2, axis=1).astype(np.float64)
    found, failed = engine.run(row, controls, {"qpos", "qvel"}, keep_final=True)
    for action in actions[1]:
        plant.step(action)
    np.testing.assert_array_equal(found["qpos"][1, -1], physics.data.qpos)
    np.testing.assert_array_equal(found["qvel"][1, -1], physics.data.qvel)
    end = np.empty_like(row)
    mujoco.mj_getState(physics.model, physics.data, end, INTEGRATION)
    np.testing.assert_array_equal(engine.final[1], end)  # warm start included
    assert not failed.any()


def test_planning_does_not_touch_the_plant() -> None:
    plant, actions = candidates("dmc/walker-walk")
    simulator = sims.make("dmc/walker-walk", threads=1)
    before = plant.snapshot()
    simulator.rollout(before, actions)
    after = plant.snapshot()
    np.testing.assert_array_equal(before["state"]["physics"]["derived"], after["state"]["physics"]["derived"])
    np.testing.assert_array_equal(before["state"]["physics"]["state"], after["state"]["physics"]["state"])


def test_rollouts_repeat_themselves_whatever_came_between() -> None:
    """Fewer, more and other candidates, and another state, in between."""
    plant, actions = candidates("dmc/hopper-stand", number=6)
    simulator, saved = sims.make("dmc/hopper-stand", threads=2), plant.snapshot()
    first = simulator.rollout(saved, actions[:4])
    plant.step(actions[0, 0])
    simulator.rollout(plant.snapshot(), -actions)
    simulator.rollout(saved, actions[:1, :3])
    again = simulator.rollout(saved, actions[:4])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_diverged_simulation_scores_minus_infinity() -> None:
    plant, actions = candidates("dmc/walker-walk")
    simulator, saved = sims.make("dmc/walker-walk", threads=1), plant.snapshot()
    assert isinstance(simulator, MujocoSimulator)
    fine = simulator.rollout(saved, actions).returns
    rows = np.tile(saved["state"]["physics"]["state"], (3, 1))
    rows[1, 3] = 1e12  # no position of a walker
    broken = {"state": {"physics": {**saved["state"]["physics"], "state": rows}}}
    simulator.go_to = lambda snapshot: None  # type: ignore[method-assign]
    returns = simulator.rollout(broken, actions).returns
    np.testing.assert_array_equal(returns, [fine[0], -np.inf, fine[2]])


def test_stepping_copies_gives_the_same_as_native_rollouts() -> None:
    plant, actions = candidates("dmc/cartpole-swingup")
    native, stepping = sims.make("dmc/cartpole-swingup", threads=1), SteppingSimulator(plant, workers=0)
    saved = plant.snapshot()
    for a, b in zip(native.rollout(saved, actions), stepping.rollout(saved, actions), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_task_without_a_known_reward_is_stepped_and_says_so() -> None:
    with pytest.warns(UserWarning, match="slow"):
        simulator = sims.make("dmc/point_mass-hard", threads=0)
    assert isinstance(simulator, SteppingSimulator)


def test_classic_control_is_stepped() -> None:
    plant, actions = candidates("gym/Pendulum-v1")
    with pytest.warns(UserWarning, match="slow"):
        simulator = sims.make("gym/Pendulum-v1", threads=0)
    foretold = simulator.rollout(plant.snapshot(), actions)
    for t, action in enumerate(actions[2]):
        assert foretold.rewards[2, t] == plant.step(action)[1]


def test_a_simulator_that_is_not_exact_is_refused_unless_allowed() -> None:
    with pytest.raises(UsageError, match="inexact=True"):
        sims.make("envs.factories:Noisy")
    with pytest.warns(UserWarning, match="slow"):
        assert sims.make("envs.factories:Noisy", threads=0, inexact=True).exactness == "replay"


def test_a_users_reward_replaces_the_environments() -> None:
    plant = envs.build("dmc/cartpole-swingup", action_repeat=1)
    plant.reset(0)
    actions = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 12, 1)
    simulator = sims.make("dmc/cartpole-swingup", action_repeat=1, task=Task(upright), threads=1)
    foretold = simulator.rollout(plant.snapshot(), actions)
    for t, action in enumerate(actions[1]):
        plant.step(action)
        assert foretold.rewards[1, t] == np.cos(plant.adapter.physics.data.qpos[1])


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda before, action, after: after.qpos, r"shape \(2, 3, 2\)"),
        (lambda before, action, after: np.nan * after.qpos[..., 0], "NaN"),
        (lambda before, action, after: after.sensor("gyro")[..., 0], "unknown sensor 'gyro'"),
        (lambda before, action, after: after.qpso[..., 0], "did you mean 'qpos'"),
        (lambda before, action, after: after.qpos[..., 99], "reward failed: IndexError: index 99 is out of bounds"),
        (lambda before, action: 0.0, "reward failed: TypeError"),
    ],
)
def test_a_senseless_reward_is_refused_at_once(reward, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        sims.make("dmc/cartpole-swingup", task=Task(reward))


@pytest.mark.parametrize("coarse", [1, 2])
def test_violations_are_counted_and_cost_their_price(coarse: int) -> None:
    plant, actions = candidates("dmc/cartpole-swingup", horizon=20)

    def outside(before, action, after):  # type: ignore[no-untyped-def]
        return after.qpos[..., 0] > 0.0

    saved = plant.snapshot()
    free = sims.make("dmc/cartpole-swingup", threads=1, coarse=coarse).rollout(saved, actions)
    task = Task(sims.suite.REWARDS["cartpole-swingup"], violated=outside, penalty=10.0)
    bound = sims.make("dmc/cartpole-swingup", task=task, threads=1, coarse=coarse).rollout(saved, actions)
    assert 0 < bound.violations.sum() < 2 / coarse * actions.shape[0] * actions.shape[1]
    np.testing.assert_allclose(bound.returns, free.returns - 10.0 * coarse * bound.violations)


def test_the_value_beyond_the_horizon_sees_what_the_environment_would() -> None:
    plant, actions = candidates("dmc/walker-walk")
    seen = []
    task = Task(sims.suite.REWARDS["walker-walk"], value=lambda obs: seen.append(obs) or obs[:, 0])
    foretold = sims.make("dmc/walker-walk", task=task, threads=1).rollout(plant.snapshot(), actions)
    for action in actions[1]:
        obs = plant.step(action)[0]
    np.testing.assert_allclose(seen[0][1], obs, atol=1e-5)
    assert foretold.values[1] == pytest.approx(obs[0], abs=1e-5)


@pytest.mark.parametrize(
    ("substeps", "repeat", "coarse", "merges"),
    [(10, 2, 1, (10, 2)), (10, 2, 5, (2, 2)), (10, 2, 4, (5, 1)), (10, 2, 20, (1, 1)), (1, 4, 2, (1, 2))],
)
def test_coarse_steps_merge_substeps_first(substeps: int, repeat: int, coarse: int, merges: tuple[int, int]) -> None:
    assert merged(substeps, repeat, coarse) == merges
    assert np.prod(merges) * coarse == substeps * repeat


def test_coarse_physics_is_mujocos_own_with_a_longer_timestep() -> None:
    """Two decisions of 20 substeps, in 5 each."""
    plant, actions = candidates("dmc/walker-walk", horizon=2)
    physics, saved = plant.adapter.physics, plant.snapshot()
    simulator = sims.make("dmc/walker-walk", threads=1, coarse=4)
    rows, rewards = simulator.many(saved, 3), 0.0
    for t in range(2):
        rows, earned = simulator.step(rows, actions[:, t])
        rewards = rewards + earned
    model, data = copy.copy(physics.model), mujoco.MjData(physics.model)
    model.opt.timestep *= 4
    mujoco.mj_setState(model, data, saved["state"]["physics"]["state"], INTEGRATION)
    for action in actions[1]:
        data.ctrl[:] = action
        mujoco.mj_step(model, data, 5)
    end = np.empty_like(rows[1])
    mujoco.mj_getState(model, data, end, INTEGRATION)
    np.testing.assert_array_equal(rows[1], end)
    np.testing.assert_allclose(simulator.rollout(saved, actions).returns, rewards)
    assert physics.model.opt.timestep == simulator.env.adapter.physics.model.opt.timestep == 0.0025


def test_coarse_physics_foretells_nearly_the_same_returns() -> None:
    """Of rewards as many as there are environment steps."""
    plant, actions = candidates("dmc/cartpole-swingup", horizon=20)
    fine, coarse = (sims.make("dmc/cartpole-swingup", threads=1, coarse=coarse) for coarse in (1, 2))
    saved = plant.snapshot()
    np.testing.assert_allclose(coarse.rollout(saved, actions).returns, fine.rollout(saved, actions).returns, rtol=0.1)


def test_coarse_steps_must_make_up_a_decision() -> None:
    with pytest.raises(UsageError, match="coarse must divide the 20 physics steps of a decision, not be 3"):
        sims.make("dmc/walker-walk", coarse=3)


def test_plans_are_judged_by_their_worst_worlds() -> None:
    def heavy(model: mujoco.MjModel) -> None:
        model.body_mass[:] *= 3.0

    plant, actions = candidates("dmc/cartpole-swingup")
    plain, varied = (
        sims.make("dmc/cartpole-swingup", threads=1),
        sims.make("dmc/cartpole-swingup", threads=1, vary=heavy),
    )
    saved = plant.snapshot()
    each = np.array([simulator.rollout(saved, actions).returns for simulator in (plain, varied)])
    assert np.abs(each[0] - each[1]).max() > 1e-3
    worst = scorer([plain, varied], saved, CVaR(0.5))(actions)
    np.testing.assert_allclose(worst, each.min(axis=0), rtol=1e-5)


def test_nothing_is_earned_after_the_end() -> None:
    rollout = Rollout(
        rewards=np.array([[1.0, 2.0, 4.0]]),
        discounts=np.array([[1.0, 0.0, 1.0]]),
        values=np.array([100.0]),
        violations=np.array([0]),
    )
    np.testing.assert_array_equal(rollout.returns, [3.0])


def test_states_are_described_alike_whatever_was_described_before() -> None:
    """Few states and many by turns, and in a model that has changed meanwhile: what `mj_forward` says of each."""
    ball = "<body><joint type='hinge'/><geom size='.1' pos='0 0 1'/></body>"
    xml = f"<mujoco><worldbody>{ball}</worldbody></mujoco>"
    model, longer = mujoco.MjModel.from_xml_string(xml), mujoco.MjModel.from_xml_string(xml.replace("0 0 1", "0 0 2"))
    engine = Engine(model, 1, refreshes=True, threads=1)
    size = mujoco.mj_stateSize(model, INTEGRATION)

    def check(model: mujoco.MjModel, angles: list[float]) -> None:
        rows, expected, data = np.zeros((len(angles), size)), [], mujoco.MjData(model)
        for row, angle in zip(rows, angles, strict=True):
            data.qpos[0] = angle
            mujoco.mj_forward(model, data)
            mujoco.mj_getState(model, data, row, INTEGRATION)
            expected.append(data.geom_xpos.copy())
        np.testing.assert_allclose(engine.describe(rows, "geom_xpos"), np.stack(expected), atol=1e-12)

    for number in (3, 5, *range(6, 20), 3):
        check(model, list(np.linspace(0.1, 1.0, number)))
    engine.set_model(longer)
    for number in (3, 19):
        check(longer, list(np.linspace(0.2, 0.5, number)))
