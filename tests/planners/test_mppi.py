"""MPPI's own promises: the temperature's unit, the warm start, the candidates, the proposals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.model import Model
from foreplan.planners.mppi import MPPI
from foreplan.planners.sampling import plan, reject_invalid

START = jnp.zeros(())
planned = jax.jit(plan, static_argnums=0)
SMALL = MPPI(horizon=3, num_samples=64, num_proposals=0, num_elites=16, iterations=3)


class Bowl(Model):
    scale: float = 1.0
    offset: float = 0.0

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        return state, self.scale * (self.offset - jnp.sum((action - 0.4) ** 2)), jnp.ones(())


class Cliff(Model):
    """Only the exact plan of the last turn is worth anything: no sample around it will hit it."""

    best: jax.Array

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        right = jnp.all(jnp.abs(action - self.best) < 1e-6)
        return state, jnp.where(right, 1.0, 0.0), jnp.ones(())


class Guided(Bowl):
    """A policy that knows the answer to a question on which samples have no chance."""

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        return state, jnp.where(jnp.all(jnp.abs(action - 0.123) < 1e-4), 1.0, 0.0), jnp.ones(())

    def prior(self, state, key):  # type: ignore[no-untyped-def]
        return jnp.full((2,), 0.123)


def mean(planner: MPPI, model: Model, seed: int = 0) -> np.ndarray:
    return np.asarray(planned(planner, model, START, planner.init(2), jax.random.key(seed))[0].mean)


def test_the_plan_does_not_change_with_the_scale_of_the_reward() -> None:
    """(PITFALLS 34)"""
    planner = replace(SMALL, temperature=0.5)
    plain = mean(planner, Bowl())
    np.testing.assert_allclose(mean(planner, Bowl(scale=100.0)), plain, atol=1e-3)
    np.testing.assert_allclose(mean(planner, Bowl(scale=0.01)), plain, atol=1e-3)
    np.testing.assert_allclose(mean(planner, Bowl(offset=7.0)), plain, atol=1e-3)


def test_the_references_temperature_does_change_with_it() -> None:
    planner = replace(SMALL, temperature=0.5, scale="raw")
    assert np.abs(mean(planner, Bowl(scale=100.0)) - mean(planner, Bowl())).max() > 0.01


def test_warm_start_shifts_the_plan_by_one_step() -> None:
    memory = SMALL.init(1)
    memory = replace(memory, mean=jnp.array([[1.0], [2.0], [3.0]]), std=jnp.full((3, 1), 0.1))
    shifted = SMALL.shift(memory)
    np.testing.assert_array_equal(shifted.mean[:, 0], [2.0, 3.0, 0.0])
    np.testing.assert_array_equal(shifted.std, SMALL.max_std)


def test_the_mean_itself_is_a_candidate() -> None:
    memory = replace(SMALL.init(2), mean=jnp.array([[0.11, -0.7], [0.2, 0.3], [0.9, 0.0]]))
    candidates = np.asarray(SMALL.ask(memory, None, jax.random.key(0)))
    assert candidates.shape == (SMALL.num_samples, 3, 2)
    assert np.abs(candidates).max() <= 1.0
    assert (candidates == np.asarray(memory.mean)).all(axis=(1, 2)).sum() == 1


def test_a_good_plan_is_not_forgotten() -> None:
    """What was worth most in the last turn still wins when nothing sampled comes near it."""
    best = jnp.array([0.25, -0.5])
    planner = replace(SMALL, horizon=1, num_elites=1, iterations=2)
    memory = replace(planner.init(2), mean=best[None])
    memory = planner.tell(*_scored(planner, memory, Cliff(best)))
    np.testing.assert_allclose(memory.mean[0], best, atol=1e-6)


def _scored(planner: MPPI, memory, model: Model):  # type: ignore[no-untyped-def]
    actions = planner.ask(memory, None, jax.random.key(0))
    scores = jax.vmap(lambda a: model.step(START, a[0], jax.random.key(0))[1])(actions)
    return memory, actions, scores


def test_the_policys_proposals_are_candidates() -> None:
    planner = replace(SMALL, num_proposals=4, num_elites=4)
    np.testing.assert_allclose(mean(planner, Guided()), 0.123, atol=1e-3)
    assert np.abs(mean(replace(planner, num_proposals=0), Guided()) - 0.123).max() > 0.01


def test_elites_are_weighted_by_their_return() -> None:
    planner = replace(SMALL, horizon=1, num_samples=3, num_elites=2, temperature=1.0, scale="raw")
    actions = jnp.array([[[1.0]], [[0.0]], [[-1.0]]])
    memory = planner.tell(planner.init(1), actions, jnp.array([np.log(3.0), 0.0, -jnp.inf], jnp.float32))
    assert float(memory.mean[0, 0]) == pytest.approx(0.75)
    assert float(memory.std[0, 0]) == pytest.approx(np.sqrt(0.75 * 0.25))


def test_spread_stays_between_its_bounds() -> None:
    planner = replace(SMALL, min_std=0.2, max_std=0.3, iterations=10)
    memory, _ = planned(planner, Bowl(), START, planner.init(2), jax.random.key(0))
    assert float(memory.std.min()) >= 0.2
    assert float(memory.std.max()) <= np.float32(0.3)


def test_fewer_valid_candidates_than_elites_do_no_harm() -> None:
    planner = replace(SMALL, horizon=1, num_samples=20, num_elites=16)
    actions = jnp.linspace(-1.0, 1.0, 20)[:, None, None]
    scores, invalid = reject_invalid(jnp.full(20, jnp.nan).at[3].set(-7.0))
    assert int(invalid) == 19
    memory = planner.tell(planner.init(1), actions, scores)
    assert float(memory.mean[0, 0]) == pytest.approx(float(actions[3, 0, 0]))
    for seed in range(8):
        assert np.isfinite(planner.act(memory, True, jax.random.key(seed))).all()


def test_invalid_scores_become_minus_infinity() -> None:
    scores, invalid = reject_invalid(jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf]))
    np.testing.assert_array_equal(scores, [1.0, -np.inf, -np.inf, -np.inf])
    assert int(invalid) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "horizon"),
        ({"iterations": 0}, "iterations"),
        ({"num_elites": 65}, "num_elites"),
        ({"num_elites": 0}, "num_elites"),
        ({"num_proposals": 64}, "num_proposals"),
        ({"min_std": 0.0}, "min_std"),
        ({"max_std": float("inf")}, "max_std"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_senseless_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
