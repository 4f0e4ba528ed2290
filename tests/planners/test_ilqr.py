"""iLQR and gradient ascent, on problems whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.core.model import Model, returns
from foreplan.envs.jax_native import Pendulum
from foreplan.planners.gradient import Gradient
from foreplan.planners.ilqr import ILQR, best_within
from foreplan.planners.sampling import plan, plan_on_host

A = jnp.array([[1.0, 0.1], [0.0, 1.0]])
B = jnp.array([[0.0], [0.1]])
planned = jax.jit(plan, static_argnums=0)


class Linear(Model):
    """A mass to be brought to rest at the origin: linear dynamics, quadratic costs."""

    effort: float = 0.1

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        after = A @ state + B @ action
        return after, -jnp.sum(after**2) - self.effort * jnp.sum(action**2), jnp.ones(())


def riccati(horizon: int, start: np.ndarray, effort: float) -> np.ndarray:
    """The optimal actions without limits, [horizon, 1]."""
    a, b, value, gains = np.asarray(A, float), np.asarray(B, float), np.zeros((2, 2)), []
    for _ in range(horizon):
        ahead = np.eye(2) + value
        gain = np.linalg.solve(effort * np.eye(1) + b.T @ ahead @ b, b.T @ ahead @ a)
        value = a.T @ ahead @ (a - b @ gain)
        gains.append(gain)
    x, actions = start.astype(float), []
    for gain in reversed(gains):
        actions.append(-gain @ x)
        x = a @ x + b @ actions[-1]
    return np.array(actions)


def test_without_limits_it_is_the_linear_quadratic_regulator() -> None:
    start = np.array([0.1, 0.0], np.float32)
    expected = riccati(20, start, 0.1)
    assert np.abs(expected).max() < 1.0
    memory, invalid = planned(ILQR(20, iterations=5), Linear(), jnp.array(start), ILQR(20).init(1), jax.random.key(0))
    np.testing.assert_allclose(memory.best, expected, atol=2e-3)
    assert invalid == 0


@pytest.mark.parametrize("planner", [ILQR(20), Gradient(20, iterations=200, lr=0.03)])
def test_limits_are_kept_and_used(planner: ILQR | Gradient) -> None:
    """Far away full thrust is best, and no feasible change of a single action improves the plan."""
    start, key = jnp.array([3.0, 0.0]), jax.random.key(0)
    memory, _ = planned(planner, Linear(), start, planner.init(1), key)
    np.testing.assert_allclose(memory.best[:5], -1.0, atol=1e-3)
    assert np.abs(memory.best).max() <= 1.0
    found = returns(Linear(), start, memory.best, key)
    for t in range(20):
        for change in (-0.1, 0.1):
            other = jnp.clip(memory.best.at[t].add(change), -1.0, 1.0)
            assert returns(Linear(), start, other, key) <= found + 1e-3


def test_best_within_limits() -> None:
    """By a grid over all feasible points."""
    curve, slope = jnp.array([[2.0, 0.9], [0.9, 1.0]]), jnp.array([3.0, -1.0])
    x, free = best_within(curve, slope, jnp.array([-1.0, -0.5]), jnp.array([0.5, 1.5]))
    grid = np.stack(np.meshgrid(np.linspace(-1, 0.5, 301), np.linspace(-0.5, 1.5, 401)), axis=-1).reshape(-1, 2)
    cost = 0.5 * np.einsum("ni,ij,nj->n", grid, curve, grid) + grid @ np.asarray(slope)
    np.testing.assert_allclose(x, grid[np.argmin(cost)], atol=0.01)
    np.testing.assert_array_equal(free, [False, False] if abs(float(x[1]) - 1.5) < 1e-6 else [False, True])


def test_improves_a_nonlinear_plan() -> None:
    """A pendulum near the top, falling: an idle plan loses it, the regulator holds it."""
    planner, state, key = ILQR(30, iterations=20), jnp.array([0.2, 0.0]), jax.random.key(0)
    memory, _ = planned(planner, Pendulum(), state, planner.init(1), key)
    idle = returns(Pendulum(), state, jnp.zeros((30, 1)), key)
    assert float(returns(Pendulum(), state, memory.best, key)) > 0.25 * float(idle)


def test_a_simulator_that_only_says_what_plans_return_is_refused() -> None:
    with pytest.raises(UsageError, match="ILQR needs a differentiable model"):
        plan_on_host(ILQR(), lambda actions: np.zeros(len(actions)), ILQR().init(1), jax.random.key(0))
