"""Layers against their definitions, and the statistics of what they are initialised with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from foreplan.nn.nets import ACTIVATIONS, MLP, Ensemble, Linear, layer_norm, mish, normalise, silu, simnorm
from foreplan.nn.stats import RunningScale

X = np.linspace(-30.0, 30.0, 241, dtype=np.float32)
TRUNCATED = 0.8796  # standard deviation of a standard normal that is cut at two of them
DEFINITIONS = {
    "none": lambda x: x,
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "silu": lambda x: x * special.expit(x),
    "relu": lambda x: np.maximum(x, 0.0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_slopes_are_what_they_are_called(name: str) -> None:
    activation, definition = ACTIVATIONS[name], DEFINITIONS[name]
    np.testing.assert_allclose(activation(jnp.asarray(X)), definition(X.astype(np.float64)), rtol=1e-5, atol=1e-6)
    x = X[np.abs(X) > 1e-3].astype(np.float64)  # at 0 some have a corner
    slopes = jax.vmap(jax.grad(activation))(jnp.asarray(x, jnp.float32))
    expected = (definition(x + 1e-5) - definition(x - 1e-5)) / 2e-5
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("activation", [mish, silu])
def test_activations_and_their_slopes_stay_finite(activation) -> None:
    for x in (-1e4, -100.0, 100.0, 1e4):
        value, slope = jax.value_and_grad(activation)(jnp.float32(x))
        assert float(value) == pytest.approx(max(x, 0.0), abs=1e-4)
        assert float(slope) == pytest.approx(float(x > 0), abs=1e-4)


def test_simnorm_gives_simplices() -> None:
    z = np.asarray(simnorm(100.0 * jax.random.normal(jax.random.key(0), (24,)), group=8)).reshape(3, 8)
    np.testing.assert_allclose(z.sum(axis=1), 1.0, rtol=1e-5)
    assert (z >= 0).all()


def test_layer_norm_has_no_mean_and_unit_variance() -> None:
    y = np.asarray(layer_norm(3.0 + 5.0 * jax.random.normal(jax.random.key(0), (512,))))
    assert y.mean() == pytest.approx(0.0, abs=1e-4)
    assert y.std() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_array_equal(layer_norm(jnp.full(8, 7.0)), 0.0)


@pytest.mark.parametrize("activation", ["none", "silu", "mish"])
def test_the_gradient_of_normalise_is_that_of_its_formula(activation: str) -> None:
    """By input, scale and offset, against differences in float64."""
    keys = jax.random.split(jax.random.key(0), 4)
    x, scale, offset, weight = (np.asarray(jax.random.normal(key, (12,)), np.float64) for key in keys)

    def formula(x: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> float:
        unit = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return float(weight @ DEFINITIONS[activation](unit * scale + offset))

    def differences(which: int) -> list[float]:
        found = []
        for i in range(12):
            ends = []
            for step in (-1e-6, 1e-6):
                given = [x.copy(), scale.copy(), offset.copy()]
                given[which][i] += step
                ends.append(formula(*given))
            found.append((ends[1] - ends[0]) / 2e-6)
        return found

    given = [jnp.asarray(a, jnp.float32) for a in (x, scale, offset)]
    loss = lambda *given: jnp.asarray(weight, jnp.float32) @ normalise(*given, activation)  # noqa: E731
    for which, gradient in enumerate(jax.grad(loss, (0, 1, 2))(*given)):
        np.testing.assert_allclose(gradient, differences(which), rtol=1e-4, atol=1e-5)


def test_linear_weights_are_a_truncated_normal() -> None:
    layer = Linear(200, 300, jax.random.key(0))
    weight = np.asarray(layer.weight)
    assert weight.shape == (300, 200)
    assert weight.std() == pytest.approx(0.02 * TRUNCATED, rel=0.02)
    assert weight.mean() == pytest.approx(0.0, abs=3e-4)
    assert 0.03 < np.abs(weight).max() <= 0.04
    np.testing.assert_array_equal(layer.bias, 0.0)


def test_every_head_of_an_ensemble_has_its_own_initialisation() -> None:
    """The reference's critics went without theirs for two years (PITFALLS 13)."""
    ensemble = Ensemble(lambda key: MLP(64, [128, 128], 101, key, dropout=0.01, zero_last=True), 5, jax.random.key(0))
    for block in ensemble.members.blocks:
        weights = np.asarray(block.linear.weight)
        assert weights.shape[0] == 5
        np.testing.assert_allclose(weights.std(axis=(1, 2)), 0.02 * TRUNCATED, rtol=0.05)
        for i in range(5):
            for j in range(i):
                assert np.abs(np.corrcoef(weights[i].ravel(), weights[j].ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(ensemble.members.last.weight, 0.0)
    np.testing.assert_array_equal(ensemble.members.last.bias, 0.0)


def test_chosen_heads_are_different_heads_of_the_ensemble() -> None:
    ensemble = Ensemble(lambda key: MLP(3, [8], 2, key), 5, jax.random.key(0))
    x = jnp.array([0.3, -0.2, 0.9])
    every = np.asarray(ensemble(x))
    drawn = set()
    for seed in range(20):
        two = ensemble.choose(2, jax.random.key(seed))
        heads = tuple(int(np.abs(every - y).sum(axis=1).argmin()) for y in np.asarray(two(x)))
        np.testing.assert_allclose(two(x), every[list(heads)], rtol=1e-5)
        assert heads[0] != heads[1]
        drawn |= set(heads)
    assert drawn == set(range(5))


def test_dropout_acts_only_with_a_key() -> None:
    mlp = MLP(16, [512], 4, jax.random.key(0), dropout=0.5)
    x = jax.random.normal(jax.random.key(1), (16,))
    np.testing.assert_array_equal(mlp(x), mlp(x))
    dropped = jax.vmap(lambda key: mlp(x, key))(jax.random.split(jax.random.key(2), 64))
    assert float(jnp.std(dropped, axis=0).max()) > 1e-3


def test_running_scale_follows_the_percentiles_and_stays_above_one() -> None:
    scale = RunningScale.create()
    x = jnp.linspace(0.0, 100.0, 1001)
    for _ in range(5):
        scale = scale.update(x, rate=0.9)
    assert float(scale.value) == pytest.approx(90.0, rel=1e-3)
    assert float(RunningScale.create().update(0.001 * x).value) == 1.0
