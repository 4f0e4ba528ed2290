"""Fitting to a hold-out set: the division of the data, and when a fit ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import counter

from foreplan.core.fitting import Fitting, Split, fit, held_out, transitions

SHARE = Fitting(hold_out=0.2)


def split_of(episodes: int, config: Fitting = SHARE, capacity: int = 400) -> tuple[Split, np.ndarray]:
    """A split of episodes of 10 steps, and the number of each row's episode."""
    ends = np.where(np.arange(10 * episodes)[:, None] % 10 == 9, 2, 0)
    replay, _ = counter(capacity, 1, 10 * episodes, ends)
    return Split.of(replay, config), np.asarray(replay.steps.episode[:, 0])


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5])
def test_the_share_of_episodes_is_held_out_evenly(share: float) -> None:
    held = np.asarray(held_out(jnp.arange(10_000, dtype=jnp.int32), share))
    assert held.mean() == pytest.approx(share, abs=0.002)
    gaps = np.diff(np.flatnonzero(held))
    assert gaps.max() <= 3 / share
    assert not held[:4].any() or share == 0.5  # the first episodes are trained on


def test_what_is_held_out_once_is_held_out_for_ever() -> None:
    """However much data comes after it (PITFALLS 24)."""
    for episodes in (12, 25, 40):
        split, numbers = split_of(episodes)
        held = np.asarray(split.held[: int(split.num_held)])
        train = np.asarray(split.train[: int(split.num_train)])
        assert set(numbers[held]) & set(range(12)) == {4, 9}
        assert not set(numbers[held]) & set(numbers[train])
        assert len(held) + len(train) == 10 * episodes
        assert set(np.flatnonzero(split.trained)) == set(train)


def test_until_an_episode_is_held_out_the_training_data_are_scored() -> None:
    split, _ = split_of(3)
    assert int(split.num_held) == int(split.num_train) == 30
    np.testing.assert_array_equal(split.held[:30], split.train[:30])


def test_only_the_newest_are_fitted_to_where_asked_for() -> None:
    """(PITFALLS 31)"""
    split, numbers = split_of(30, Fitting(hold_out=0.2, newest=100))
    rows = [*split.train[: int(split.num_train)], *split.held[: int(split.num_held)]]
    assert set(numbers[np.asarray(rows)]) == set(range(20, 30))


def test_a_mean_is_over_the_held_out_alone() -> None:
    split, numbers = split_of(20)
    values = jnp.asarray(numbers, jnp.float32)
    held = np.asarray(split.held[: int(split.num_held)])
    mean = split.mean(lambda at: {"x": values[at], "xy": jnp.stack([values[at]] * 2, axis=1)}, most=1000, chunk=16)
    assert float(mean["x"]) == pytest.approx(numbers[held].mean(), rel=1e-5)
    np.testing.assert_allclose(mean["xy"], numbers[held].mean(), rtol=1e-5)


def test_a_mean_over_fewer_is_spread_over_all_of_them() -> None:
    """Not over the oldest, where there are fewer than twice as many."""
    split = all_of(15)
    mean = split.mean(lambda at: at.astype(jnp.float32), most=10, chunk=4)
    assert float(mean) == pytest.approx(np.mean([0, 1, 3, 4, 6, 7, 9, 10, 12, 13]))


def test_draws_are_of_the_training_split_and_reach_all_of_it() -> None:
    split, numbers = split_of(20)
    drawn = np.asarray(split.draw((4000,), jax.random.key(0)))
    assert set(drawn) == set(np.flatnonzero(split.trained))
    assert set(numbers[drawn]).isdisjoint({4, 9})


def all_of(number: int) -> Split:
    """So many transitions, all to train on, and to score."""
    at = jnp.arange(number, dtype=jnp.int32)
    return Split(at, at, jnp.int32(number), jnp.int32(number), jnp.ones(number, jnp.bool_))


def run(score, number=8, lr=0.1, **config):  # type: ignore[no-untyped-def]
    """A fit of one number, which falls by a tenth an epoch, and of one that stays."""
    start = {"a": jnp.ones(()), "b": jnp.ones(())}
    return fit(
        Fitting(lr=lr, batch_size=8, **config),
        start,
        lambda parts, at: parts["a"] + 0.0 * parts["b"],
        score,
        all_of(number),
        jax.random.key(0),
    )


def test_a_fit_ends_when_nothing_gains_any_more() -> None:
    def bottom(parts):  # type: ignore[no-untyped-def]
        return {"a": jnp.abs(parts["a"] - 0.6) + 1.0, "b": jnp.ones(())}

    found = run(bottom, patience=3, max_epochs=50)
    assert int(found.epochs) == 4 + 3
    assert float(found.best["a"]) == pytest.approx(0.6, abs=1e-3)
    assert float(found.parameters["a"]) < 0.5  # it had gone on, in vain


def test_a_gain_below_a_hundredth_does_not_prolong_a_fit_but_is_kept() -> None:
    def slow(parts):  # type: ignore[no-untyped-def]
        return {"a": 100.0 + parts["a"], "b": jnp.ones(())}

    found = run(slow, patience=5, max_epochs=50)
    assert int(found.epochs) == 5
    assert float(found.best["a"]) == pytest.approx(0.5, abs=1e-3)


def test_each_part_keeps_its_own_best() -> None:
    def opposed(parts):  # type: ignore[no-untyped-def]
        return {"a": jnp.abs(parts["a"] - 0.7), "b": jnp.abs(parts["a"] - 0.3)}

    found = run(opposed, patience=3, max_epochs=12)
    assert float(found.best["a"]) == pytest.approx(0.7, abs=1e-3)
    assert float(found.scores["b"]) == pytest.approx(0.0, abs=1e-3)


def test_a_fit_that_breaks_leaves_what_it_was_given() -> None:
    found = run(lambda parts: {"a": jnp.where(parts["a"] < 1.0, jnp.nan, 1.0), "b": jnp.ones(())}, patience=3)
    assert float(found.best["a"]) == 1.0
    assert int(found.epochs) == 3


def test_a_decaying_rate_comes_down_evenly_to_nothing() -> None:
    """Adam goes down a straight line in steps of the rate: 0.1 (1 + 0.9 + ... + 0.1) in ten updates."""
    found = run(lambda parts: {"a": parts["a"], "b": jnp.ones(())}, max_epochs=10, patience=10, decay=True)
    assert float(found.parameters["a"]) == pytest.approx(1.0 - 0.55, abs=1e-4)


def test_an_epoch_is_as_many_draws_as_there_are_transitions() -> None:
    """Also where its batches are not a multiple of those that are drawn together."""
    found = run(lambda parts: {"a": parts["a"], "b": jnp.ones(())}, number=8 * 37 + 1, lr=0.001, max_epochs=2)
    assert float(found.parameters["a"]) == pytest.approx(1.0 - 0.001 * 2 * 38, abs=1e-5)


def test_averaged_weights_are_kept_and_scatter_less() -> None:
    """About the least of a loss whose gradients are noisy, and that soon: where they began is forgotten."""
    config = Fitting(lr=0.1, batch_size=8, max_epochs=20, patience=20, averaging=0.01)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=400), jnp.float32)
    noise -= jnp.mean(noise)

    def error(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = fit(
            config,
            {"a": jnp.asarray(3.0)},
            lambda parts, at: (parts["a"] - 0.5 - 2.0 * noise[at[0]]) ** 2,
            lambda parts: {"a": (parts["a"] - 0.5) ** 2},
            all_of(400),
            key,
        )
        return (found.averaged["a"] - 0.5) ** 2, (found.parameters["a"] - 0.5) ** 2

    averaged, last = jax.vmap(error)(jax.random.split(jax.random.key(0), 20))
    assert float(jnp.mean(averaged)) < 0.02 < 0.05 < float(jnp.mean(last))


def test_transitions_are_the_rows_of_the_buffer() -> None:
    replay, _ = counter(6, 2, 6, np.zeros((6, 2)))
    np.testing.assert_array_equal(transitions(replay).obs[5], replay.steps.obs[2, 1])


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"hold_out": 1.0}, {"gain": -0.1}, {"patience": 0}, {"newest": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Fitting(**wrong)
