"""Products in bfloat16 against exact products of rounded factors, under every transformation that networks meet."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from foreplan.nn.nets import MLP, Linear, product

ROWS, INPUTS, OUTPUTS = 33, 20, 12
RNG = np.random.default_rng(0)
X, WEIGHT = RNG.normal(size=(ROWS, INPUTS)), RNG.normal(size=(OUTPUTS, INPUTS))
COTANGENT = RNG.normal(size=(ROWS, OUTPUTS))


@pytest.fixture(autouse=True)
def half():
    with jax.default_matmul_precision("bfloat16"):
        yield


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def single(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def close(found: jax.Array, expected: np.ndarray) -> None:
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


EXACT, ROUNDED = X @ WEIGHT.T, rounded(X) @ rounded(WEIGHT).T


def test_factors_are_rounded_and_sums_are_not() -> None:
    assert np.abs(EXACT - ROUNDED).max() > 0.01  # so that the following can tell them apart
    close(product(single(X[0]), single(WEIGHT)), ROUNDED[0])
    close(jax.jit(jax.vmap(product, (0, None)))(single(X), single(WEIGHT)), ROUNDED)
    many = jax.vmap(jax.vmap(product, (0, None)), (0, None))(single(X).reshape(3, 11, INPUTS), single(WEIGHT))
    close(many, ROUNDED.reshape(3, 11, OUTPUTS))


def test_one_input_to_many_networks() -> None:
    close(
        jax.vmap(product, (None, 0))(single(X[0]), single(np.stack([WEIGHT, -WEIGHT]))),
        np.array([[1], [-1]]) * ROUNDED[0],
    )


def test_an_input_each_for_many_networks_is_multiplied_in_full() -> None:
    many = jax.vmap(product)(single(X[:2]), single(np.stack([WEIGHT, -WEIGHT])))
    close(many, np.array([[1], [-1]]) * EXACT[:2])


def test_gradients_are_products_of_what_is_rounded() -> None:
    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(single(COTANGENT) * jax.vmap(product, (0, None))(x, weight))

    of_x, of_weight = jax.jit(jax.grad(loss, (0, 1)))(single(X), single(WEIGHT))
    close(of_x, rounded(COTANGENT) @ rounded(WEIGHT))
    close(of_weight, rounded(COTANGENT).T @ rounded(X))
    alone = jax.grad(lambda x: jnp.sum(single(COTANGENT[0]) * product(x, single(WEIGHT))))(single(X[0]))
    close(alone, rounded(COTANGENT[:1] @ np.eye(OUTPUTS))[0] @ rounded(WEIGHT))


def test_gradients_of_one_input_to_many_networks() -> None:
    def loss(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(product, (None, 0))(x, weights) @ single(COTANGENT[0]))

    of_x, of_weights = jax.grad(loss, (0, 1))(single(X[0]), single(np.stack([WEIGHT, -WEIGHT])))
    np.testing.assert_allclose(of_x, np.zeros(INPUTS), atol=0.05)  # the two are opposed
    close(of_weights, np.stack([np.outer(rounded(COTANGENT[0]), rounded(X[0]))] * 2))


@pytest.mark.parametrize("rows", [63, 64, 80])
def test_square_products_are_no_others(rows: int) -> None:
    """They are padded. Forwards, and in both gradients."""
    x, weight, cotangent = np.random.default_rng(1).normal(size=(3, 80, 80))
    x, cotangent = x[:rows], cotangent[:rows]
    found, back = jax.vjp(jax.vmap(product, (0, None)), single(x), single(weight))
    close(found, rounded(x) @ rounded(weight).T)
    of_x, of_weight = back(single(cotangent))
    close(of_x, rounded(cotangent) @ rounded(weight))
    close(of_weight, rounded(cotangent).T @ rounded(x))


def test_second_derivatives_exist() -> None:
    """A planner that descends Hessians meets networks, too: the curvature of |W x|² is twice WᵀW."""
    curve = jax.hessian(lambda x: jnp.sum(product(x, single(WEIGHT)) ** 2))(single(X[0]))
    np.testing.assert_allclose(curve, 2 * WEIGHT.T @ WEIGHT, rtol=0.02, atol=0.3)


def test_a_network_is_close_to_itself_in_full_precision() -> None:
    net = MLP(INPUTS, [64, 64], OUTPUTS, jax.random.key(0))
    found = jax.vmap(net)(single(X))
    with jax.default_matmul_precision("float32"):
        full = jax.vmap(net)(single(X))
    apart = float(jnp.linalg.norm(found - full) / jnp.linalg.norm(full))
    assert 1e-5 < apart < 0.02


def test_without_asking_nothing_is_rounded() -> None:
    layer = Linear(INPUTS, OUTPUTS, jax.random.key(0))
    with jax.default_matmul_precision("float32"):
        found = jax.vmap(layer)(single(X))
    np.testing.assert_allclose(found, single(X) @ layer.weight.T, rtol=1e-5, atol=1e-6)
