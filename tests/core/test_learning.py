"""The mechanism of learning against sums written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import copy
from probes import loop

from foreplan.core.errors import nearest, unknown
from foreplan.core.learning import (
    count_parameters,
    descend,
    masked_mean,
    moving_average,
    over_batch,
    repeat_updates,
    where_first,
)


def test_descend_takes_one_step_downhill() -> None:
    optimiser = optax.sgd(0.1)
    parameters = {"x": jnp.array([3.0, -1.0])}
    auxiliary, parameters, _ = descend(
        lambda p: (jnp.sum(p["x"] ** 2), "kept"), parameters, optimiser, optimiser.init(parameters)
    )
    np.testing.assert_allclose(parameters["x"], [3.0 - 0.1 * 6.0, -1.0 + 0.1 * 2.0], rtol=1e-6)
    assert auxiliary == "kept"


@pytest.mark.parametrize("num_updates", [1, 3])
def test_updates_are_counted_and_metrics_averaged(num_updates: int) -> None:
    replay, _ = loop(reward=1.0, limit=4, steps=16)

    def update(learner, window, key):  # type: ignore[no-untyped-def]
        return learner + jnp.sum(window.reward), {"before": learner}

    learner, metrics = repeat_updates(
        update, jnp.zeros(()), replay, jax.random.key(0), num_updates=num_updates, batch_size=2, horizon=3
    )
    assert float(learner) == 6.0 * num_updates
    assert float(metrics["before"]) == np.mean([6.0 * i for i in range(num_updates)])


def test_updates_of_one_call_draw_different_windows() -> None:
    replay, _ = loop(reward=1.0, limit=4, steps=64)

    def update(learner, window, key):  # type: ignore[no-untyped-def]
        seen, count = learner
        return (seen.at[count].set(window.action[:, 0, 0]), count + 1), {}

    seen, _ = repeat_updates(
        update, (jnp.zeros((4, 8)), jnp.int32(0)), replay, jax.random.key(0), num_updates=4, batch_size=8, horizon=1
    )[0]
    assert len({tuple(row) for row in np.asarray(seen).tolist()}) == 4


def test_over_batch_is_a_map_over_both_axes() -> None:
    x, y = jnp.arange(12.0).reshape(2, 3, 2), jnp.arange(6.0).reshape(2, 3)
    result = over_batch(lambda a, b: {"sum": a.sum() + b, "a": a})(x, y)
    np.testing.assert_array_equal(result["sum"], x.sum(-1) + y)
    np.testing.assert_array_equal(result["a"], x)


def test_moving_average_moves_by_its_rate() -> None:
    moved = moving_average({"w": jnp.zeros(2)}, {"w": jnp.array([1.0, -2.0])}, 0.25)
    np.testing.assert_allclose(moved["w"], [0.25, -0.5])


def test_memory_is_fresh_where_an_episode_begins() -> None:
    fresh, memory = {"m": jnp.zeros(2)}, {"m": jnp.ones(2)}
    select = jax.vmap(where_first, (0, None, None))
    np.testing.assert_array_equal(select(jnp.array([True, False]), fresh, memory)["m"], [[0, 0], [1, 1]])


def test_masked_mean_ignores_what_is_masked_even_nan() -> None:
    x, mask = jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True])
    assert float(masked_mean(x, mask)) == 2.0
    assert float(masked_mean(x, jnp.zeros(3, jnp.bool_))) == 0.0


def test_parameters_are_counted() -> None:
    assert count_parameters({"w": jnp.zeros((3, 4)), "name": "x"}) == 12
    assert count_parameters(copy({"w": jnp.zeros(5)})) == 5


def test_the_nearest_name_is_offered() -> None:
    assert nearest("Cartpole-swing", ["walker-walk", "cartpole-swingup"]) == "cartpole-swingup"
    assert nearest("zzz", ["walker-walk"]) is None
    message = str(unknown("agent", "tdmpc", ["tdmpc2", "bc"]))
    assert message == "unknown agent 'tdmpc'; did you mean 'tdmpc2'? (accepted: bc, tdmpc2)"
