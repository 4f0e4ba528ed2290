"""Two-hot and symlog against what they are by definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreplan.core.maths import TwoHot, symexp, symlog

values = st.floats(-2e4, 2e4, width=32)


@given(values)
def test_symexp_inverts_symlog(x: float) -> None:
    assert float(symexp(symlog(jnp.float32(x)))) == pytest.approx(x, rel=2e-5, abs=1e-6)


@given(values, st.sampled_from([2, 11, 101]))
def test_encoding_is_a_distribution_with_the_right_mean(x: float, bins: int) -> None:
    two_hot = TwoHot(bins=bins, limit=10.0)
    weights = np.asarray(two_hot.encode(jnp.float32(x)), np.float64)
    assert weights.sum() == pytest.approx(1.0, abs=1e-4)
    assert (weights >= 0).all()
    assert (weights > 1e-5).sum() <= 2  # rounding leaves a trace on a third
    mean = weights @ np.linspace(-10.0, 10.0, bins)
    assert mean == pytest.approx(np.sign(x) * np.log1p(abs(x)), abs=2e-4)


@given(values)
def test_decoding_inverts_encoding(x: float) -> None:
    two_hot = TwoHot()
    logits = jnp.log(two_hot.encode(jnp.float32(x)) + 1e-30)
    assert float(two_hot.decode(logits)) == pytest.approx(x, rel=2e-3, abs=1e-3)


def test_values_beyond_the_limit_are_clipped_to_the_last_bin() -> None:
    two_hot = TwoHot(bins=5, limit=2.0)
    np.testing.assert_array_equal(two_hot.encode(jnp.float32(1e6)), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(two_hot.encode(jnp.float32(-1e6)), [1, 0, 0, 0, 0])


def test_gradient_of_the_loss_is_prediction_minus_target() -> None:
    two_hot = TwoHot(bins=11, limit=5.0)
    logits = jax.random.normal(jax.random.key(0), (11,))
    gradient = jax.grad(two_hot.loss)(logits, jnp.float32(3.0))
    expected = jax.nn.softmax(logits) - two_hot.encode(jnp.float32(3.0))
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_gradient_of_decoding_agrees_with_finite_differences() -> None:
    two_hot = TwoHot(bins=11, limit=2.0)
    logits = jax.random.normal(jax.random.key(1), (11,))
    gradient = jax.grad(two_hot.decode)(logits)
    step = 1e-2
    for i in range(11):
        nudge = jnp.zeros(11).at[i].set(step)
        slope = (two_hot.decode(logits + nudge) - two_hot.decode(logits - nudge)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(float(slope), abs=2e-3)


def test_decoding_survives_extreme_logits() -> None:
    two_hot = TwoHot(bins=3, limit=1.0)
    value, gradient = jax.value_and_grad(two_hot.decode)(jnp.array([-1e30, 500.0, -500.0]))
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("bins", "limit"), [(0, 10.0), (101, 0.0), (101, float("inf")), (101, float("nan"))])
def test_senseless_settings_are_refused(bins: int, limit: float) -> None:
    with pytest.raises(ValueError, match="two-hot needs"):
        TwoHot(bins=bins, limit=limit)


def test_a_single_bin_is_the_number_itself() -> None:
    scalar, logits = TwoHot(bins=1), jnp.array([-3.5])
    assert float(scalar.decode(logits)) == -3.5
    assert float(scalar.loss(logits, jnp.float32(2.5))) == 36.0
