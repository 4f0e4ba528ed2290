"""Prioritised replay against its formulas (Schaul et al. 2016)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.core.replay import Priority, Replay, held_out, rewritten, sample
from foreplan.core.types import Spec, Step

KEY = jax.random.key(0)
DRAW = jax.jit(sample, static_argnums=(1, 2), static_argnames="priority")


def buffer(priority: np.ndarray, capacity: int | None = None, head: int | None = None) -> Replay:
    """Of these priorities [row, env]; the reward of a transition is its place in the flattened array."""
    rows, envs = priority.shape
    numbers = np.arange(rows * envs, dtype=np.float32).reshape(rows, envs)
    full = Replay.create(Spec((1,), 1, num_envs=envs), rows * envs, {"priority": jnp.zeros((envs,))})
    steps = replace(full.steps, reward=jnp.asarray(numbers), extras={"priority": jnp.asarray(priority, jnp.float32)})
    head = rows if head is None else head
    return replace(full, steps=steps, head=jnp.asarray(head % rows, jnp.int32), size=jnp.asarray(rows, jnp.int32))


def test_windows_are_drawn_by_priority_and_weighed_to_make_up_for_it() -> None:
    priority = np.array([[1.0, 4.0], [9.0, 0.0], [16.0, 0.25]])  # 0: never learned from, as good as the largest
    window = DRAW(buffer(priority, head=1), 20_000, 1, KEY, priority=Priority(0.5, 0.4))
    mass = np.sqrt([1.0, 4.0, 9.0, 16.0, 16.0, 0.25])
    share = mass / mass.sum()
    came = np.asarray(window.reward[:, 0]).astype(int)
    np.testing.assert_allclose(np.bincount(came, minlength=6) / 20_000, share, atol=0.015)
    weight = (6 * share) ** -0.4
    np.testing.assert_allclose(window.drawn.weight, (weight / weight.max())[came], rtol=1e-4)
    np.testing.assert_array_equal(2 * np.asarray(window.drawn.row) + np.asarray(window.drawn.env), came)


def test_new_priorities_go_where_the_windows_began() -> None:
    replay = buffer(np.zeros((4, 1)))
    window = DRAW(replay, 64, 1, KEY, priority=Priority(1.0))
    again = rewritten(replay, window.drawn.row, window.drawn.env, {"priority": window.reward[:, 0] + 1.0})
    np.testing.assert_array_equal(again.steps.extras["priority"][:, 0], [1.0, 2.0, 3.0, 4.0])
    nowhere = rewritten(replay, jnp.array([4]), jnp.array([0]), {"priority": jnp.array([9.0])})
    np.testing.assert_array_equal(nowhere.steps.extras["priority"], 0.0)


def test_episodes_held_out_are_not_drawn() -> None:
    replay = buffer(np.ones((100, 1)))
    steps: Step = replace(replay.steps, episode=jnp.arange(100, dtype=jnp.int32)[:, None])
    window = DRAW(replace(replay, steps=steps, hold_out=0.3), 2000, 1, KEY, priority=Priority(1.0))
    held = np.asarray(held_out(jnp.arange(100), 0.3))
    assert 20 <= held.sum() <= 40
    assert not held[np.asarray(window.reward[:, 0]).astype(int)].any()


def test_demonstrations_keep_their_share_and_have_no_priority() -> None:
    demos = buffer(np.ones((5, 1)))
    replay = replace(buffer(np.ones((10, 1))), demos=demos, demo_share=0.25)
    window = DRAW(replay, 16, 1, KEY, priority=Priority(1.0))
    assert np.asarray(window.demo).sum() == 4
    np.testing.assert_array_equal(np.asarray(window.drawn.row)[:4], 10)  # a row that there is not
    np.testing.assert_array_equal(np.asarray(window.drawn.weight)[:4], 1.0)
