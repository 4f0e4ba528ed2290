"""The one formula against sums written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.model import Model, proposals, returns


class Chain(Model):
    """The state counts steps; each pays its action; the episode terminates on reaching `end`."""

    end: int = 100
    discount: float = 0.5
    beyond: float = 0.0

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        state = state + 1
        return state, action[0], jnp.where(state >= self.end, 0.0, self.discount)

    def value(self, state, key):  # type: ignore[no-untyped-def]
        return jnp.float32(self.beyond)


class Walker(Chain):
    """A policy that plays a tenth of the state."""

    def prior(self, state, key):  # type: ignore[no-untyped-def]
        return jnp.full((1,), 0.1) * state.astype(jnp.float32)


ACTIONS = jnp.array([[1.0], [10.0], [100.0]])
START = jnp.zeros((), jnp.int32)


def score(model: Model) -> float:
    return float(returns(model, START, ACTIONS, jax.random.key(0)))


def test_rewards_and_the_value_beyond_are_discounted() -> None:
    assert score(Chain(beyond=1000.0)) == 1.0 + 0.5 * 10.0 + 0.25 * 100.0 + 0.125 * 1000.0


def test_certain_termination_leaves_nothing_beyond() -> None:
    """The reward of the step that terminates counts; nothing after it does (PITFALLS 2 and 8)."""
    assert score(Chain(end=1, beyond=1e6)) == 1.0
    assert score(Chain(end=2, beyond=1e6)) == 1.0 + 0.5 * 10.0


def test_returns_cut_at_several_depths_are_weighed() -> None:
    """Of three, the first is 1 + V / 2, the second 1 + 10 / 2 + V / 4, the third as above."""

    class Weighed(Chain):
        weights: tuple[float, ...] = ()

        def depths(self, horizon):  # type: ignore[no-untyped-def]
            assert horizon == 3
            return jnp.asarray(self.weights)

    cuts = [1.0 + 0.5 * 1000.0, 6.0 + 0.25 * 1000.0, 31.0 + 0.125 * 1000.0]
    for weights in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.25, 0.25)):
        assert score(Weighed(beyond=1000.0, weights=weights)) == np.dot(cuts, weights)
    assert score(Weighed(end=2, beyond=1000.0, weights=(0.0, 0.0, 1.0))) == 6.0  # nothing after the end


def test_a_model_may_have_no_value_and_no_policy() -> None:
    class Bare(Model):
        def step(self, state, action, key):  # type: ignore[no-untyped-def]
            return state, jnp.float32(1.0), jnp.float32(1.0)

    assert score(Bare()) == 3.0
    assert proposals(Bare(), START, 3, 5, jax.random.key(0)) is None


def test_proposals_follow_the_policy_through_the_model() -> None:
    offered = proposals(Walker(), START, 3, 2, jax.random.key(0))
    assert offered is not None
    np.testing.assert_allclose(offered[:, :, 0], [[0.0, 0.1, 0.2]] * 2, rtol=1e-6)
    assert proposals(Walker(), START, 3, 0, jax.random.key(0)) is None


def test_candidates_share_their_random_numbers() -> None:
    class Noisy(Chain):
        def step(self, state, action, key):  # type: ignore[no-untyped-def]
            return state, action[0] + 100.0 * jax.random.normal(key, ()), jnp.ones(())

    key = jax.random.key(0)
    better, worse = (float(returns(Noisy(), START, actions, key)) for actions in (ACTIONS, ACTIONS - 1.0))
    assert better - worse == pytest.approx(3.0, abs=1e-3)
