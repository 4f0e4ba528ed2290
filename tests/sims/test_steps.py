"""Single steps from many states, changes of states, and derivatives by finite differences."""

import jax
import mujoco
import numpy as np
import pytest

from foreplan.agents.mpc import MPC
from foreplan.core.errors import UsageError
from foreplan.envs import names as envs
from foreplan.envs.physics import INTEGRATION
from foreplan.planners import differences
from foreplan.planners.ilqr import ILQR
from foreplan.sims import names as sims
from foreplan.sims.mujoco import Task
from foreplan.sims.steps import Steps


def begin(name: str, action_repeat: int = 1) -> tuple:
    """(plant in the middle of an episode, steps from there, actions [3, action])"""
    plant, rng = envs.build(name, action_repeat), np.random.default_rng(0)
    plant.reset(1)
    for _ in range(5):
        plant.step(rng.uniform(-1, 1, plant.spec.action_dim).astype(np.float32))
    steps = Steps(sims.make(name, action_repeat, threads=1), plant.snapshot())
    return plant, steps, rng.uniform(-1, 1, (3, plant.spec.action_dim)).astype(np.float32)


@pytest.mark.parametrize("name", ["dmc/cartpole-swingup", "dmc/walker-walk", "dmc/quadruped-walk", "gym/Hopper-v5"])
def test_a_step_is_what_the_plant_does(name: str) -> None:
    plant, steps, actions = begin(name, action_repeat=2)
    rows, rewards = steps.step(np.repeat(steps.start[None], 3, axis=0), actions)
    _, reward, _, _ = plant.step(actions[1])
    after = np.empty_like(steps.start)
    mujoco.mj_getState(plant.adapter.physics.model, plant.adapter.physics.data, after, INTEGRATION)
    np.testing.assert_array_equal(rows[1], after)
    assert rewards[1] == pytest.approx(reward, abs=1e-6)


@pytest.mark.parametrize("name", ["dmc/cartpole-swingup", "dmc/quadruped-walk"])
def test_what_is_moved_differs_by_that_much(name: str) -> None:
    """With rotations (a quadruped's trunk) as without."""
    _, steps, _ = begin(name)
    changes = np.random.default_rng(2).normal(scale=0.3, size=(4, steps.dim))
    rows = np.repeat(steps.start[None], 4, axis=0)
    moved = steps.moved(rows, changes)
    np.testing.assert_allclose(steps.difference(rows, moved), changes, atol=1e-9)
    assert not np.array_equal(rows, moved)


def test_derivatives_are_mujocos_own() -> None:
    plant, steps, actions = begin("dmc/reacher-easy")
    model, data = plant.adapter.physics.model, plant.adapter.physics.data
    assert plant.adapter.env._n_sub_steps == 1
    found = differences.expand(steps, steps.start[None], actions[:1].astype(float), 1e-4)
    a, b = np.empty((4, 4)), np.empty((4, 2))
    data.ctrl[:] = actions[0]
    mujoco.mjd_transitionFD(model, data, 1e-6, True, a, b, None, None)
    np.testing.assert_allclose(found.a[0], a, atol=1e-4)
    np.testing.assert_allclose(found.b[0], b, atol=1e-4)


class Bowl:
    """x' = x + u; the reward is minus a quadratic form of (x, u), whose derivatives are known."""

    start = np.array([0.3, -0.2])
    dim = 2
    form = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 0.8]])

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = np.concatenate([rows, actions], axis=1)
        return rows + actions, -0.5 * np.einsum("ni,ij,nj->n", z, self.form, z)

    def moved(self, rows: np.ndarray, changes: np.ndarray) -> np.ndarray:
        return rows + changes

    def difference(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return others - rows


def test_second_derivatives_of_the_reward() -> None:
    world, plan = Bowl(), np.array([[0.4], [1.0]])
    rows = np.array([world.start, world.start + 0.4])
    found = differences.expand(world, rows, plan, 1e-3)
    for t in range(2):
        z = np.array([*rows[t], min(plan[t, 0], 0.999)])
        np.testing.assert_allclose([*found.cost_x[t], *found.cost_u[t]], world.form @ z, atol=1e-4)
        np.testing.assert_allclose(found.cost_xx[t], world.form[:2, :2], atol=1e-4)
        np.testing.assert_allclose(found.cost_ux[t], world.form[2:, :2], atol=1e-4)
        np.testing.assert_allclose(found.cost_uu[t], world.form[2:, 2:], atol=1e-4)
        np.testing.assert_allclose(found.b[t], np.ones((2, 1)), atol=1e-5)


def effort(before, action, after):  # type: ignore[no-untyped-def]
    """Smooth: the pole up, the cart in the middle, all slow."""
    up = np.cos(after.angle("hinge_1"))
    return up - 0.1 * after.qpos[..., 0] ** 2 - 0.02 * np.sum(after.qvel**2, axis=-1) - 0.01 * action[..., 0] ** 2


def test_ilqr_holds_a_pole_up_in_mujoco() -> None:
    """Half a second by which an idle pole has fallen far."""
    plant = envs.make("dmc/cartpole-balance", action_repeat=2)
    agent = MPC.of(plant, ILQR(horizon=25, iterations=4), task=Task(effort), threads=1)
    memory, timestep = agent.memory(plant.spec), plant.reset(0)
    for turn in range(25):
        actions, memory, notes = agent.act((), timestep, memory, jax.random.key(turn), False)
        plant.send(np.asarray(actions))
        timestep = plant.recv()
        assert notes["invalid_plans"] == 0
    upright = timestep.obs[0, 1]  # cosine of the angle
    assert upright > 0.999
    assert abs(timestep.obs[0, 4]) < 0.2


def test_what_cannot_be_stepped_is_refused() -> None:
    plant = envs.build("gym/Ant-v5")
    plant.reset(0)
    with pytest.raises(UsageError, match="cannot be stepped from many states"):
        Steps(sims.make("gym/Ant-v5", threads=1), plant.snapshot())
    plant = envs.build("dmc/cartpole-swingup")
    plant.reset(0)
    valued = sims.make("dmc/cartpole-swingup", task=Task(effort, value=lambda obs: obs[:, 0]), threads=1)
    with pytest.raises(UsageError, match="no value beyond the horizon"):
        Steps(valued, plant.snapshot())
