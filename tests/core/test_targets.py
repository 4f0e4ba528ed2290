"""What values are fitted to, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import corridor, ending

from foreplan.core.replay import sample
from foreplan.core.targets import lambda_returns, multi_step, n_step, td_lambda

KEY = jax.random.key(0)


def zero(obs: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.zeros(())


def test_n_step_targets_stop_where_an_episode_ends() -> None:
    """(PITFALLS 2 and 3) By hand, with discount 0.9."""
    returns, discount, row = n_step(ending(), 0.9)
    two, three = 1 + 0.9 * 2, 1 + 0.9 * 2 + 0.81 * 3
    np.testing.assert_allclose(returns, [three, two, two, -100.0], rtol=1e-6)
    np.testing.assert_allclose(discount, [0.729, 0.0, 0.81, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(row, [3, 2, 2, 1])


def test_lambda_returns_mix_targets_of_every_length() -> None:
    """Of three steps G = (1 - w) (G1 + w G2) + w^2 G3 (Sutton and Barto 2018, equation 12.9); w is 0.8."""
    values = jnp.asarray([[10.0, 20.0, 40.0]] * 4)
    one, two, three = 1 + 0.5 * 10, 1 + 0.5 * 2 + 0.25 * 20, 1 + 0.5 * 2 + 0.25 * 3 + 0.125 * 40
    terminated, truncated = 0.2 * one + 0.8 * (1 + 0.5 * 2), 0.2 * one + 0.8 * two
    expected = [0.2 * (one + 0.8 * two) + 0.64 * three, terminated, truncated, -100.0]
    np.testing.assert_allclose(td_lambda(ending(), values, 0.5, 0.8), expected, rtol=1e-6)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [6.0, 12.0, 23.0]), (1.0, [7.75, 13.5, 23.0])])
def test_a_weight_of_zero_is_one_step_and_of_one_is_all_of_them(weight: float, expected: list[float]) -> None:
    reward, value = jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([10.0, 20.0, 40.0])
    nothing = jnp.zeros((3,), jnp.bool_)
    found = lambda_returns(reward, nothing, nothing.at[2].set(True), value, 0.5, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_every_transition_has_its_own_steps(steps: int, weight: float) -> None:
    """Rewards of 1 in episodes that terminate after four, values of 0: the sum of (0.9 weight)^i over those that are
    left, at most `steps`."""
    replay, _ = corridor(4, rewards=[1.0] * 4, terminates=True)
    window = sample(replay, 64, 3 + steps - 1, KEY)
    targets = multi_step(window, 3, zero, 0.9, KEY, weight)
    left = 4 - np.argmax(window.obs[:, 0], axis=1)
    for t in range(3):
        expected = [sum((0.9 * weight) ** i for i in range(min(steps, number - t))) for number in left]
        real = np.asarray(window.mask[:, t])
        np.testing.assert_allclose(targets[real, t], np.asarray(expected)[real], rtol=1e-5)
