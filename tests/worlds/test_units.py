"""Networks in other units say the same; parts that were fitted beforehand are kept, frozen or fitted further."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import remember

from foreplan.core.fitting import Fitting
from foreplan.core.replay import Replay
from foreplan.core.types import Spec
from foreplan.worlds.ensemble import EnsembleWorld, Network, Scaling
from foreplan.worlds.fitting import WorldFitting, refit
from foreplan.worlds.units import merged, rebased

SPEC = Spec(obs_shape=(3,), action_dim=1)
SIZE = Network(members=2, elites=2, layers=2, width=8, head_width=8)
QUICK = WorldFitting(Fitting(lr=1e-2, batch_size=16, max_epochs=2), targets="delta")
OBS, ACTION, AFTER = jnp.array([0.3, -1.0, 2.0]), jnp.array([0.4]), jnp.array([0.5, -0.5, 1.0])


def units(seed: int) -> Scaling:
    random = np.random.default_rng(seed)
    like = Scaling.create(3, 1)
    drawn = jax.tree.map(lambda leaf: jnp.float32(random.uniform(0.2, 2.0, leaf.shape)), like)
    return eqx.tree_at(lambda s: s.residual, drawn, jnp.ones(3))


def world(seed: int, size: Network = SIZE) -> EnsembleWorld:
    made = EnsembleWorld.create(SPEC, size, jax.random.key(seed))
    return eqx.tree_at(lambda w: w.scaling, made, units(seed))


def said(world: EnsembleWorld, name: str) -> Any:
    """By each member."""
    ask = {
        "dynamics": lambda member: member.next(OBS, ACTION, jax.random.key(0)),
        "reward": lambda member: member.reward(OBS, ACTION, AFTER),
        "continuation": lambda member: member.continue_logit(OBS, ACTION, AFTER),
    }[name]
    return jax.vmap(ask)(world.members(jnp.arange(world.num_members, dtype=jnp.int32)))


def same(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, other)


@pytest.mark.parametrize("probabilistic", [True, False])
def test_other_units_leave_predictions_as_they_were(probabilistic: bool) -> None:
    before = world(0, replace(SIZE, probabilistic=probabilistic))
    after = rebased(before, units(1))
    for name in before.nets:
        same(said(after, name), said(before, name))
        assert not np.allclose(jax.tree.leaves(after.nets[name])[0], jax.tree.leaves(before.nets[name])[0])


def test_parts_of_different_data_stand_side_by_side() -> None:
    """Those of the dynamics decide the units."""
    one, other, fresh = world(0), world(1), world(2)
    order = jnp.array([1, 0], jnp.int32)
    made = merged(fresh, {"dynamics": one.only("dynamics", order), "reward": other.only("reward", order)})
    same(said(made, "dynamics"), said(one, "dynamics"))
    same(said(made, "reward"), said(other, "reward"))
    np.testing.assert_array_equal(made.elites, order)
    np.testing.assert_array_equal(made.scaling.target_std, one.scaling.target_std)


def data() -> Replay:
    random, replay = np.random.default_rng(0), Replay.create(SPEC, 200)
    for t in range(200):
        obs, action = random.normal(size=3), random.uniform(-1, 1, (1, 1))
        replay = remember(replay, [(obs, obs[0], t % 20 == 19, False, 0.9 * obs + action[0])], action, t // 20)
    return replay


def test_what_is_frozen_says_the_same_after_a_fit() -> None:
    before = world(0)
    config = replace(QUICK, kept=("dynamics", "reward"), frozen=("dynamics", "reward"))
    after, metrics = refit(before, data(), config, jax.random.key(0))
    for name in ("dynamics", "reward"):
        same(said(after, name), said(before, name))
    assert not np.allclose(said(after, "continuation"), said(before, "continuation"), atol=1e-2)
    assert "continuation_error" in metrics
    assert "dynamics_error" not in metrics
    assert not np.allclose(after.scaling.input_mean, before.scaling.input_mean, atol=1e-3)


def test_what_is_kept_is_where_a_fit_begins() -> None:
    """With a rate of nothing it stays there, although the units are of other data."""
    before = world(0)
    config = replace(QUICK, fitting=replace(QUICK.fitting, lr=1e-12), decay=(0.0,), kept=("dynamics", "reward"))
    after, _ = refit(before, data(), config, jax.random.key(0))
    for name in ("dynamics", "reward"):
        same(said(after, name), said(before, name))
    assert not np.allclose(said(after, "continuation"), said(before, "continuation"), atol=1e-2)


def test_where_all_is_frozen_nothing_is_fitted() -> None:
    before = world(0)
    after, metrics = refit(before, data(), replace(QUICK, frozen=tuple(before.nets)), jax.random.key(0))
    assert after is before
    assert metrics == {}


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: 'dynamics', 'reward', 'continuation'"):
        replace(QUICK, frozen=("value",))
