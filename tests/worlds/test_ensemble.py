"""The ensemble of dynamics, on systems whose laws and noise are known."""

from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import shapes
from probes import remember

from foreplan.core.fitting import Fitting
from foreplan.core.model import returns
from foreplan.core.replay import Replay
from foreplan.core.types import Metrics, Spec
from foreplan.worlds.ensemble import EnsembleWorld, Gaussian, Member, Network
from foreplan.worlds.fitting import WorldFitting, aimed, decayed, fit_world, losses, refit
from foreplan.worlds.foresight import Foresight

SPEC = Spec(obs_shape=(3,), action_dim=1, episode_length=25)
SMALL = Network(members=3, elites=2, layers=2, width=32, head_width=16)
PLAIN = replace(SMALL, members=1, elites=1, probabilistic=False)
FITTING = WorldFitting(Fitting(lr=3e-3, batch_size=64, max_epochs=60, hold_out=0.2))
QUICK = WorldFitting(Fitting(lr=3e-3, batch_size=64, max_epochs=40, hold_out=0.2), min_std=1e-6)
NOISE = np.array([0.0, 0.05, 0.2])
ZERO = jnp.zeros(3)


def data(episodes: int = 40, scale: float = 1.0, offset: float = 0.0) -> Replay:
    """A smooth law with noise of known size; the reward is -x0^2; where |x2| exceeds 1.2 an episode terminates."""
    replay, random = Replay.create(SPEC, 25 * episodes), np.random.default_rng(0)
    for episode in range(episodes):
        obs = random.normal(size=3) * 0.5
        for t in range(25):
            action = random.uniform(-1, 1, (1, 1))
            after = 0.9 * obs + 0.3 * np.sin(2.0 * action[0, 0] + obs) + NOISE * random.normal(size=3)
            terminated = bool(abs(after[2]) > 1.2)
            seen, reached = scale * obs + offset, scale * after + offset
            step = seen, -scale * obs[0] ** 2, terminated, t == 24 and not terminated, reached
            replay = remember(replay, [step], action, episode)
            if terminated:
                break
            obs = after
    return replay


@pytest.fixture(scope="module")
def replay() -> Replay:
    return data()


@pytest.fixture(scope="module")
def fitted(replay: Replay) -> tuple[EnsembleWorld, Metrics]:
    return refit(EnsembleWorld.create(SPEC, SMALL, jax.random.key(0)), replay, FITTING, jax.random.key(1))


def best(world: EnsembleWorld) -> Member:
    return jax.tree.map(lambda leaf: leaf[0], world.members(world.elites))


def points(number: int = 200) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Observations, actions, and the means of what follows."""
    random = np.random.default_rng(1)
    obs, action = 0.4 * random.normal(size=(number, 3)), random.uniform(-1, 1, (number, 1))
    law = 0.9 * obs + 0.3 * np.sin(2.0 * action + obs)
    return jnp.float32(obs), jnp.float32(action), jnp.float32(law)


def test_law_and_noise_are_found(fitted: tuple[EnsembleWorld, Metrics]) -> None:
    obs, action, law = points()
    mean, std = jax.vmap(best(fitted[0]).predict)(obs, action)
    np.testing.assert_array_less(np.sqrt(np.mean((mean - law) ** 2, axis=0)), [0.05, 0.06, 0.12])
    np.testing.assert_allclose(np.median(std, axis=0)[1:], NOISE[1:], rtol=0.4)
    assert np.median(std[:, 0]) < 0.03


def test_reward_and_end_are_found(fitted: tuple[EnsembleWorld, Metrics]) -> None:
    obs, action, law = points()
    member = best(fitted[0])
    rewards = jax.vmap(member.reward)(obs, action, law)
    assert np.sqrt(np.mean((rewards + obs[:, 0] ** 2) ** 2)) < 0.1 * np.std(obs[:, 0] ** 2) + 0.02
    heights = jnp.array([0.0, 0.7, 1.6, -1.6])
    after = jnp.stack([jnp.zeros(4), jnp.zeros(4), heights], axis=1)
    odds = jax.vmap(lambda x: member.continue_logit(ZERO.at[2].set(0.9 * x[2]), jnp.zeros(1), x))(after)
    np.testing.assert_array_equal(odds > 0.0, [True, True, False, False])


def test_how_rare_ends_are_is_known_although_the_loss_counts_them_alike(
    fitted: tuple[EnsembleWorld, Metrics], replay: Replay
) -> None:
    """The mean probability of an end is the share of ends (PITFALLS 9)."""
    rows = slice(0, int(replay.size))
    steps = jax.tree.map(lambda leaf: leaf[rows, 0], replay.steps)
    going_on = jax.nn.sigmoid(jax.vmap(best(fitted[0]).continue_logit)(steps.obs, steps.action, steps.next_obs))
    share = float(np.mean(steps.terminated))
    assert 0.01 < share < 0.2
    assert float(jnp.mean(1.0 - going_on)) == pytest.approx(share, rel=0.4)


def test_metrics_are_of_the_elites(fitted: tuple[EnsembleWorld, Metrics]) -> None:
    world, metrics = fitted
    assert set(metrics) == {
        "dynamics_error", "reward_error", "continuation_error", "log_error", "epochs", "train_transitions"
    }  # fmt: skip
    assert len(set(np.asarray(world.elites).tolist())) == 2
    assert 0.0 < metrics["dynamics_error"] < 0.5
    assert metrics["reward_error"] < 0.1


def test_the_plain_form_is_least_squares(replay: Replay) -> None:
    world, _ = refit(EnsembleWorld.create(SPEC, PLAIN, jax.random.key(0)), replay, QUICK, jax.random.key(1))
    obs, action, law = points()
    mean, _ = jax.vmap(best(world).predict)(obs, action)
    np.testing.assert_array_less(np.sqrt(np.mean((mean - law) ** 2, axis=0)), [0.06, 0.08, 0.15])
    one, other = (best(world).next(ZERO, jnp.zeros(1), jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_units_are_of_the_training_split_alone_and_have_a_floor(replay: Replay) -> None:
    """(PITFALLS 25) A dimension that never moves does not divide by zero."""
    spoilt = np.array(replay.steps.obs)
    held = np.isin(np.asarray(replay.steps.episode), [4, 9, 12])
    spoilt[held] = 1e4
    still = np.concatenate([spoilt[..., :2], np.zeros_like(spoilt[..., :1])], axis=-1)
    other = eqx.tree_at(lambda r: (r.steps.obs, r.steps.next_obs), replay, (jnp.asarray(still), jnp.asarray(still)))
    world, _, _ = fit_world(EnsembleWorld.create(SPEC, PLAIN, jax.random.key(0)), other, QUICK, jax.random.key(1))
    assert np.abs(world.scaling.input_mean).max() < 1.0
    assert float(world.scaling.input_std[2]) == pytest.approx(1e-6)
    assert float(world.scaling.target_std[2]) == pytest.approx(1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(world.nets))


def test_what_is_learned_does_not_depend_on_units(replay: Replay) -> None:
    """Observations in hundredths and shifted, rewards as well: the same errors (PITFALLS 23)."""
    start = EnsembleWorld.create(SPEC, PLAIN, jax.random.key(0))
    _, one, _ = fit_world(start, replay, QUICK, jax.random.key(1))
    _, other, _ = fit_world(start, data(scale=100.0, offset=50.0), QUICK, jax.random.key(1))
    for name in ("dynamics_error", "reward_error"):
        assert float(other[name]) == pytest.approx(float(one[name]), rel=0.15), name


@pytest.mark.parametrize(("targets", "expected"), [("delta", 1.0), ("next", 0.0)])
def test_the_kind_of_target_can_be_named(replay: Replay, targets: Any, expected: float) -> None:
    config = replace(FITTING, targets=targets, fitting=replace(FITTING.fitting, max_epochs=2))
    world, _ = refit(EnsembleWorld.create(SPEC, PLAIN, jax.random.key(0)), replay, config, jax.random.key(1))
    np.testing.assert_array_equal(world.scaling.residual, expected)


def test_the_better_kind_of_target_is_kept() -> None:
    """What follows has nothing to do with what was: to foretell the change one would have to undo it."""
    random, spec = np.random.default_rng(0), Spec(obs_shape=(3,), action_dim=1)
    replay = Replay.create(spec, 400)
    for t in range(400):
        obs, action = 5.0 * random.normal(size=3), random.uniform(-1, 1, (1, 1))
        replay = remember(replay, [(obs, 0.0, False, t % 10 == 9, np.full(3, action[0, 0]))], action, t // 10)
    world = EnsembleWorld.create(spec, PLAIN, jax.random.key(0))
    world, _ = refit(world, replay, QUICK, jax.random.key(1))
    np.testing.assert_array_equal(world.scaling.residual, 0.0)
    again, _ = refit(world, replay, QUICK, jax.random.key(2))
    np.testing.assert_array_equal(again.scaling.residual, 0.0)


def test_members_differ_and_keep_their_own_best(fitted: tuple[EnsembleWorld, Metrics], replay: Replay) -> None:
    """A fit that starts from the best never ends with worse, for any member (PITFALLS 26)."""
    config = replace(FITTING, fitting=replace(FITTING.fitting, lr=0.1, max_epochs=2))  # which ruins everything
    world, before, _ = fit_world(fitted[0], replay, FITTING, jax.random.key(7))
    ruined, after, _ = fit_world(world, replay, config, jax.random.key(3))
    assert float(after["dynamics_error"]) <= float(before["dynamics_error"]) * 1.001
    for leaf in jax.tree.leaves(ruined.nets["dynamics"].net):
        assert not np.array_equal(leaf[0], leaf[1])


def test_trees_keep_structure_shape_and_dtype(fitted: tuple[EnsembleWorld, Metrics]) -> None:
    assert shapes(fitted[0]) == shapes(EnsembleWorld.create(SPEC, SMALL, jax.random.key(0)))


def test_the_variance_is_softly_clamped() -> None:
    """(PITFALLS 29)"""
    net = Gaussian(4, 2, jax.random.key(0), SMALL)
    for raw in (-100.0, 100.0):
        biased = eqx.tree_at(lambda g: g.net.layers[-1].bias, net, jnp.full(4, raw))
        _, log_variance = biased(jnp.zeros(4))
        expected = {-100.0: -10.0, 100.0: 0.5}[raw]
        np.testing.assert_allclose(log_variance, expected, atol=1e-3)
        slopes = jax.grad(lambda net: jnp.sum(net(jnp.zeros(4))[1]))(biased).bounds
        np.testing.assert_allclose(slopes[0 if raw < 0 else 1], 1.0, atol=1e-3)  # the bounds themselves are learned


def test_with_a_beta_of_one_means_descend_as_in_least_squares(
    fitted: tuple[EnsembleWorld, Metrics], replay: Replay
) -> None:
    """And with a smaller one less, where much is foretold of the variance (Seitzer et al. 2022, equation 3)."""
    member, step = best(fitted[0]), jax.tree.map(lambda leaf: jnp.asarray(leaf[3, 0]), replay.steps)

    def slopes(beta: float, name: str = "dynamics") -> np.ndarray:
        """By the three means that the network gives."""

        def loss(bias: jax.Array) -> jax.Array:
            moved = eqx.tree_at(lambda m: m.nets["dynamics"].net.layers[-1].bias, member, bias)
            return jnp.mean(losses(moved, jnp.ones(2), step, beta)[name])

        return np.asarray(jax.grad(loss)(member.nets["dynamics"].net.layers[-1].bias)[:3])

    variance = (member.predict(step.obs, step.action)[1] / member.scaling.target_std) ** 2
    np.testing.assert_allclose(slopes(1.0), slopes(0.0, "errors"), rtol=1e-4)
    np.testing.assert_allclose(slopes(0.5), slopes(0.0) * np.sqrt(variance), rtol=1e-4)
    assert np.ptp(variance) > 0.1 * np.max(variance)


def test_weights_decay_by_layer() -> None:
    net = Gaussian(4, 2, jax.random.key(0), replace(SMALL, layers=4))
    rates = (1.0, 2.0, 3.0, 4.0, 5.0)
    squares = [float(np.sum(np.square(layer.weight))) for layer in net.net.layers]
    assert float(decayed({"dynamics": net}, rates)) == pytest.approx(0.5 * np.dot(rates, squares), rel=1e-5)


def test_rows_are_moved_by_the_elites_in_equal_shares(fitted: tuple[EnsembleWorld, Metrics]) -> None:
    world = fitted[0]
    quiet = eqx.tree_at(
        lambda w: w.nets["dynamics"].bounds,
        world,
        jax.tree.map(lambda x: x * 0.0 - 40.0, world.nets["dynamics"].bounds),
    )
    obs, action, _ = points(40)
    after, rewards, going_on = quiet.transitions(obs, action, jax.random.key(5))
    every = jax.vmap(lambda member: jax.vmap(member.predict)(obs, action)[0])(quiet.members(quiet.elites))
    distance = np.abs(np.asarray(every) - np.asarray(after)[None]).max(axis=2)
    np.testing.assert_allclose(distance.min(axis=0), 0.0, atol=1e-4)
    np.testing.assert_array_equal(np.bincount(distance.argmin(axis=0)), [20, 20])
    assert rewards.shape == going_on.shape == (40,)
    assert ((going_on >= 0.0) & (going_on <= 1.0)).all()


def test_a_users_reward_stands_in_for_the_network_and_ends_enter_softly(
    fitted: tuple[EnsembleWorld, Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The continuation enters the discount softly (PITFALLS 8); effort has its price."""
    actions = jnp.array([[1.0], [0.5], [0.25]])
    _, _, discount = Foresight(best(fitted[0])).step(ZERO, actions[0], jax.random.key(0))
    assert 0.5 < float(discount) <= 1.0
    monkeypatch.setattr(Member, "going_on", lambda member, o, a, n: jnp.float32(0.5))
    model = Foresight(best(fitted[0]), lambda o, a, n: a[0] + 0.0 * n[0])
    assert float(returns(model, ZERO, actions, jax.random.key(0))) == pytest.approx(1.0 + 0.25 + 0.0625)
    model = replace(model, effort=0.1)
    assert float(returns(model, ZERO, actions, jax.random.key(0))) == pytest.approx(0.9 + 0.2375 + 0.0609375)


def test_a_part_that_is_not_asked_for_has_no_network() -> None:
    create = partial(EnsembleWorld.create, size=PLAIN, key=jax.random.key(0))
    assert set(create(SPEC, reward=False, continuation=False).nets) == {"dynamics"}
    assert set(create(replace(SPEC, terminates=False)).nets) == {"dynamics", "reward"}


@pytest.mark.parametrize("wrong", [{"elites": 8}, {"width": 0}, {"activation": "sine"}])
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"elites|layers|accepted"):
        Network(**wrong)


def test_aiming_changes_the_target_only() -> None:
    world = EnsembleWorld.create(SPEC, PLAIN, jax.random.key(0))
    member = best(aimed(world, 0.0))
    np.testing.assert_array_equal(member.target(ZERO + 1.0, ZERO + 3.0), 3.0)
    np.testing.assert_array_equal(best(aimed(world, 1.0)).target(ZERO + 1.0, ZERO + 3.0), 2.0)
