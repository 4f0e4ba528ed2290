"""The buffer: what a window may hold, near ends, at the newest step and where the ring has wrapped around."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import corridor, counter, remember

from foreplan.core import machine
from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay, Window, extend, fold, insert, sample
from foreplan.core.types import Spec, Step

KEY = jax.random.key(0)
draw = jax.jit(sample, static_argnums=(1, 2))


def check(window: Window, kept: list[list[int]]) -> set[tuple[int, int]]:
    """Every claim on a window of the counting environment. Returns the (environment, number) where windows begin."""
    obs, mask = np.asarray(window.obs), np.asarray(window.mask)
    ended = np.asarray(window.terminated) | np.asarray(window.truncated)
    number = np.rint(np.asarray(window.reward)).astype(int)
    begins = set()
    for b in range(len(mask)):
        env, episode, first = obs[b, 0].astype(int)
        assert first in kept[env], "a window begins with what the buffer no longer holds, or does not hold yet"
        assert mask[b, 0], "the first transition of a window is always real"
        begins.add((int(env), int(first)))
        newest = kept[env][-1]
        for t in range(mask.shape[1]):
            alive = not ended[b, :t].any() and first + t <= newest
            assert mask[b, t] == alive, "the mask ends at the first end, or at the newest step, and nowhere else"
            if mask[b, t]:
                assert number[b, t] == first + t, "contiguous"
                assert window.action[b, t, 0] == np.float32((first + t) / 1000), "action and reward are aligned"
                np.testing.assert_array_equal(
                    obs[b, t + 1], [env, episode, first + t + 1], "the successor is the true one"
                )
    return begins


@settings(max_examples=40)
@given(
    capacity=st.sampled_from([6, 12]),  # of three environments the smaller holds less than one window
    num_envs=st.sampled_from([1, 3]),
    steps=st.integers(1, 30),
    often=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_every_window_is_contiguous_aligned_and_masked(
    capacity: int, num_envs: int, steps: int, often: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    ends = np.where(random.random((steps, num_envs)) < often, random.integers(1, 3, (steps, num_envs)), 0)
    replay, kept = counter(capacity, num_envs, steps, ends)
    check(draw(replay, 64, 4, jax.random.key(seed)), kept)


@pytest.mark.parametrize("steps", [3, 8, 11])  # not full yet, just full, wrapped around
def test_every_stored_transition_begins_windows_equally_often(steps: int) -> None:
    replay, kept = counter(16, 2, steps, np.zeros((steps, 2), int))
    window = draw(replay, 4096, 3, jax.random.key(0))
    begins = check(window, kept)
    stored = {(env, number) for env in range(2) for number in kept[env]}
    assert begins == stored
    counts = np.array([np.sum((window.obs[:, 0, 0] == e) & (window.obs[:, 0, 2] == n)) for e, n in stored])
    expected = 4096 / len(stored)
    assert ((counts - expected) ** 2 / expected).sum() < 3 * len(stored)  # chi-squared; its mean is the number of bins


def test_a_step_can_be_sampled_at_once() -> None:
    """No waiting for the end of an episode (PITFALLS 47)."""
    replay, kept = counter(8, 1, 1, np.zeros((1, 1), int))
    window = draw(replay, 8, 3, jax.random.key(0))
    assert check(window, kept) == {(0, 0)}
    np.testing.assert_array_equal(window.mask, np.tile([True, False, False], (8, 1)))


def test_episodes_shorter_than_the_window_are_sampled() -> None:
    """An environment that dies in two steps still yields data, its deaths included (PITFALLS 3 and 4)."""
    replay, _ = corridor(2, rewards=[0.0, -1.0], terminates=True, steps=32)
    window = draw(replay, 512, 5, jax.random.key(0))
    begins_at_death = np.asarray(window.obs[:, 0, 1] == 1.0)
    assert 0.4 < begins_at_death.mean() < 0.6
    expected_mask = np.where(begins_at_death[:, None], [[1, 0, 0, 0, 0]], [[1, 1, 0, 0, 0]]).astype(bool)
    np.testing.assert_array_equal(window.mask, expected_mask)
    death = np.asarray(window.mask & window.terminated)
    np.testing.assert_array_equal(death.sum(axis=1), 1)
    np.testing.assert_array_equal(np.asarray(window.reward)[death], -1.0)
    assert not np.asarray(window.truncated).any()


def test_truncation_keeps_its_final_observation() -> None:
    """The successor is where the episode was cut, not where the next one began (PITFALLS 1)."""
    replay, _ = corridor(3, rewards=[0.0] * 3, terminates=False)
    window = draw(replay, 256, 1, jax.random.key(0))
    cut = np.asarray(window.truncated[:, 0])
    assert cut.any()
    np.testing.assert_array_equal(np.asarray(window.obs)[cut, 1].argmax(axis=-1), 3)


def test_insertion_is_in_place() -> None:
    replay = Replay.create(Spec(obs_shape=(4,), action_dim=2), 1000)
    replay = remember(replay, [(np.zeros(4), 0.0, False, False, np.zeros(4))], np.zeros((1, 2)))
    before = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(replay.steps)]
    old = replay
    replay = remember(replay, [(np.ones(4), 1.0, False, False, np.ones(4))], np.ones((1, 2)))
    assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(replay.steps)] == before
    assert old.steps.obs.is_deleted()
    np.testing.assert_array_equal(replay.steps.reward[:3, 0], [0.0, 1.0, 0.0])


def test_insertion_of_device_arrays_moves_nothing_between_host_and_device() -> None:
    replay = Replay.create(Spec(obs_shape=(2,), action_dim=1), 10)
    no = jnp.zeros(1, jnp.bool_)
    step = Step(jnp.ones((1, 2)), jnp.ones((1, 1)), jnp.ones(1), no, no, jnp.ones((1, 2)), jnp.zeros(1, jnp.int32))
    with jax.transfer_guard("disallow"):
        replay = insert(insert(replay, step), step)
    assert int(replay.size) == int(replay.head) == 2


def test_capacity_is_shared_by_the_environments() -> None:
    make = partial(Replay.create, Spec(obs_shape=(1,), action_dim=1, num_envs=4))
    assert make(10).steps.reward.shape == (2, 4)
    assert make(1).steps.reward.shape == (1, 4)


def test_a_buffer_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transition has 2 * 3 + 2 + 1 + 1 numbers of four bytes and two flags: 42 bytes."""
    monkeypatch.setattr(machine, "memory", lambda: 84_000)
    spec = Spec(obs_shape=(3,), action_dim=2, num_envs=1)
    assert Replay.create(spec, 1000).capacity == 1000
    with pytest.raises(UsageError, match=r"--buffer: 1,001 transitions would take 0.0 GB.*some 1,000 transitions"):
        Replay.create(spec, 1001)
    with pytest.raises(UsageError, match=r"--agent\.rollouts\.capacity: 1,001"):
        Replay.create(spec, 1001, option="--agent.rollouts.capacity")


def test_observations_that_are_not_flat_are_refused() -> None:
    with pytest.raises(ValueError, match="flat observations"):
        Replay.create(Spec(obs_shape=(8, 8), action_dim=1), 10)


def test_a_fading_buffer_prefers_the_new() -> None:
    """With fade 1 the density rises linearly with the place in the buffer: its mean lies at two thirds."""
    replay, _ = counter(100, 1, 150, np.zeros((150, 1), int))
    places = (
        np.asarray(jax.jit(partial(sample, fade=1.0), static_argnums=(1, 2))(replay, 4000, 1, KEY).obs[:, 0, 2]) - 50
    )
    assert places.min() >= 0
    assert places.max() == 99
    assert places.mean() == pytest.approx(66.0, abs=1.5)


def test_each_row_is_handed_on_once_and_in_order() -> None:
    def append(numbers: jax.Array, step: Step) -> jax.Array:
        return jnp.concatenate([numbers[1:], jnp.asarray(step.reward)])

    replay, _ = counter(20, 1, 5, np.zeros((5, 1), int))
    numbers, seen = fold(append, jnp.full(8, -1.0), replay, jnp.int32(0))
    np.testing.assert_array_equal(numbers, [-1, -1, -1, 0, 1, 2, 3, 4])
    again, seen = fold(append, numbers, replay, seen)
    np.testing.assert_array_equal(again, numbers)
    replay, _ = counter(20, 1, 7, np.zeros((7, 1), int))
    numbers, seen = fold(append, numbers, replay, seen)
    np.testing.assert_array_equal(numbers, [-1, 0, 1, 2, 3, 4, 5, 6])
    assert int(seen) == 7


def test_a_buffer_is_extended_by_what_is_kept_and_by_nothing_else() -> None:
    replay = Replay.create(Spec((1,), 1), 5)
    for begin, keep in [
        (0, [True, False, True, True]),
        (4, [False, False, False, False]),
        (8, [True, True, False, True]),
    ]:
        number = jnp.arange(begin, begin + 4, dtype=jnp.float32)
        no, column = jnp.zeros(4, jnp.bool_), number[:, None]
        step = Step(column, column, number, no, no, column, number.astype(jnp.int32))
        replay = jax.jit(extend)(replay, step, jnp.asarray(keep))
    assert (int(replay.size), int(replay.head)) == (5, 1)
    np.testing.assert_array_equal(replay.steps.reward[:, 0], [11, 2, 3, 8, 9])  # 0, the oldest, was written over
    np.testing.assert_array_equal(replay.steps.obs[:, 0, 0], [11, 2, 3, 8, 9])
