"""The squashed Gaussian's log-probability, by change of variables and by integration (PITFALLS 14 and 15)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from foreplan.nn.dists import SquashedGaussian

MEAN, LOG_STD = np.array([0.3, -1.2, 0.0]), np.array([-0.5, 0.2, 0.6])
DRAW = jax.jit(jax.vmap(SquashedGaussian.sample, in_axes=(None, 0)))


def gaussian(mean: np.ndarray, log_std: np.ndarray) -> SquashedGaussian:
    return SquashedGaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32))


def density(action: np.ndarray, mean: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """p(tanh^-1 a) |d tanh^-1 a / da|, one dimension at a time."""
    return stats.norm.pdf(np.arctanh(action), mean, np.exp(log_std)) / (1.0 - action**2)


def test_the_density_to_compare_with_integrates_to_one() -> None:
    for mean, log_std in zip(MEAN, LOG_STD, strict=True):
        total, _ = integrate.quad(density, -1.0, 1.0, args=(mean, log_std), limit=400)
        assert total == pytest.approx(1.0, abs=1e-6)


def test_log_probability_agrees_with_the_change_of_variables() -> None:
    actions, log_probs = DRAW(gaussian(MEAN, LOG_STD), jax.random.split(jax.random.key(0), 2000))
    actions = np.asarray(actions, np.float64)
    inside = (np.abs(actions) < 0.999).all(axis=1)  # further out float32 has no digits left for the comparison
    assert inside.mean() > 0.8
    expected = np.log(density(actions[inside], MEAN, LOG_STD)).sum(axis=1)
    np.testing.assert_allclose(np.asarray(log_probs)[inside], expected, atol=5e-3)


def test_samples_follow_their_own_density() -> None:
    """The mean of 1 / p over the samples within an interval is the length of the interval."""
    actions, log_probs = DRAW(gaussian(MEAN[:1], LOG_STD[:1]), jax.random.split(jax.random.key(1), 20_000))
    within = np.abs(np.asarray(actions)[:, 0]) < 0.8
    assert np.mean(within * np.exp(-np.asarray(log_probs, np.float64))) == pytest.approx(1.6, rel=0.03)


def test_saturation_costs_entropy() -> None:
    """The Jacobian of tanh counts: a policy pressed against the bounds has lost its entropy (PITFALLS 14)."""
    keys = jax.random.split(jax.random.key(2), 500)
    entropy = [-float(jnp.mean(DRAW(gaussian(np.array([m]), np.array([0.0])), keys)[1])) for m in (0.0, 2.0, 5.0)]
    assert entropy[0] > entropy[1] + 1.0 > entropy[2] + 4.0


def test_extreme_outputs_have_finite_values_and_gradients() -> None:
    def objective(outputs: jax.Array) -> jax.Array:
        action, log_prob = SquashedGaussian.of(outputs).sample(jax.random.key(0))
        return jnp.sum(action) + log_prob

    for size in (0.0, 50.0, -50.0, 1e4):
        value, gradient = jax.value_and_grad(objective)(jnp.full(4, size))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_standard_deviation_is_bounded_and_the_mode_is_in_range() -> None:
    wild = SquashedGaussian.of(jnp.array([1e3, -1e3, 1e3, -1e3]), low=-10.0, high=2.0)
    np.testing.assert_allclose(wild.log_std, [2.0, -10.0], atol=1e-5)
    np.testing.assert_allclose(wild.mode(), [1.0, -1.0], atol=1e-6)
