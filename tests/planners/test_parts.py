"""The parts of planners: noise, warm starts, splines, limits, attitudes to risk, discrete actions, the host's loop."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.model import Model, proposals, returns
from foreplan.planners.cem import CEM
from foreplan.planners.discrete import Discrete
from foreplan.planners.icem import ICEM
from foreplan.planners.limits import Limited
from foreplan.planners.mppi import MPPI
from foreplan.planners.noise import coloured
from foreplan.planners.predictive import predictive_sampling
from foreplan.planners.random_shooting import RandomShooting
from foreplan.planners.risk import CVaR, Mean, MeanMinusDeviation, Members
from foreplan.planners.sampling import plan, plan_on_host, search
from foreplan.planners.splines import Splined, places, weights

KEY = jax.random.key(0)


# ---------------------------------------------------------------------- noise
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.5])
def test_coloured_noise_has_unit_variance_at_every_step(exponent: float) -> None:
    noise = np.asarray(coloured(KEY, exponent, (20_000, 8, 1)))
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.03)
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.05)


def test_coloured_noise_is_smoother_the_larger_its_exponent() -> None:
    def alike(exponent: float) -> float:
        noise = np.asarray(coloured(KEY, exponent, (5000, 20, 1)))[..., 0]
        return float(np.mean(noise[:, 1:] * noise[:, :-1]))

    white, pink, brown = alike(1e-9), alike(1.0), alike(2.0)
    assert white == pytest.approx(0.0, abs=0.02)
    assert 0.3 < pink < brown < 1.0


def test_coloured_noise_falls_with_its_frequency_as_promised() -> None:
    """Doubling the frequency quarters the power of brown noise."""
    noise = np.asarray(coloured(KEY, 2.0, (20_000, 128, 1)))[..., 0] * np.hanning(128)
    power = np.mean(np.abs(np.fft.rfft(noise)) ** 2, axis=0)
    assert power[8] / power[16] == pytest.approx(4.0, rel=0.15)
    assert power[12] / power[24] == pytest.approx(4.0, rel=0.15)


# ---------------------------------------------------------------------- warm starts
def test_icem_asks_for_less_and_less() -> None:
    planner = ICEM(num_samples=64, iterations=5, decay=2.0, num_elites=10)
    assert planner.populations == (64, 32, 20, 20, 20)
    for round, number in enumerate(planner.populations):
        assert planner.ask(planner.init(2), None, KEY, round).shape == (number, 30, 2)


def test_icem_shifts_mean_spread_elites_and_best_and_offers_them() -> None:
    planner = ICEM(horizon=3, num_samples=20, num_elites=4, kept=0.5, warm_std=0.5, std=0.8, decay=1.0)
    ramp = jnp.array([[0.1], [0.2], [0.3]])
    memory = replace(planner.init(1), mean=ramp, std=ramp, best=-ramp, elites=jnp.stack([ramp / 2] * 4))
    shifted = planner.shift(memory)
    np.testing.assert_allclose(shifted.mean[:, 0], [0.2, 0.3, 0.3])
    np.testing.assert_allclose(shifted.std[:, 0], [0.5, 0.55, 0.8])  # half of what was, half of 0.8
    offered = np.asarray(planner.ask(shifted, None, KEY))[:4, :, 0]
    np.testing.assert_allclose(offered[0], [0.2, 0.3, 0.3])
    np.testing.assert_allclose(offered[1], [-0.2, -0.3, -0.3])
    np.testing.assert_allclose(offered[2:], [[0.1, 0.15, 0.15]] * 2)


def test_cem_shifts_mean_and_spread() -> None:
    planner = CEM(horizon=3, warm_std=1.0, std=0.8)
    memory = replace(planner.init(1), mean=jnp.array([[0.1], [0.2], [0.3]]), std=jnp.array([[0.1], [0.2], [0.3]]))
    shifted = planner.shift(memory)
    np.testing.assert_allclose(shifted.mean[:, 0], [0.2, 0.3, 0.3])
    np.testing.assert_allclose(shifted.std[:, 0], [0.2, 0.3, 0.8])


# ---------------------------------------------------------------------- splines
def test_splines_pass_through_their_knots() -> None:
    knots = np.random.default_rng(0).normal(size=(4, 2))
    for order in ("zero", "linear", "cubic"):
        plan = weights(10, 4, order) @ knots
        np.testing.assert_allclose(plan[list(places(10, 4))], knots, atol=1e-12)


def test_splines_of_each_order() -> None:
    assert places(5, 3) == (0, 2, 4)
    knots = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(weights(5, 3, "zero") @ knots, [0.0, 0.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(weights(5, 3, "linear") @ knots, [0.0, 0.5, 1.0, 0.5, 0.0])
    line = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(weights(5, 3, "cubic") @ line, np.linspace(0.1, 0.9, 5), atol=1e-12)
    assert (weights(5, 3, "cubic") @ knots)[1] == pytest.approx(0.625)  # slopes 1/2 and 0, by Hermite's formula


@pytest.mark.parametrize("order", ["zero", "linear", "cubic"])
def test_a_spline_moves_on_by_one_step_not_by_one_knot(order: str) -> None:
    """(PITFALLS 38) A plan that is linear in time is read off at the right times, held beyond its end."""
    planner = Splined(CEM(horizon=3), horizon=9, order=order)
    assert planner.places == (0, 4, 8)
    moved = planner.forward(jnp.array([[0.0], [0.4], [0.8]]))[:, 0]
    expected = [0.0, 0.4, 0.8] if order == "zero" else [0.1, 0.5, 0.8]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_plan_cannot_have_more_knots_than_steps() -> None:
    with pytest.raises(ValueError, match="from 2 to 5 knots"):
        predictive_sampling(horizon=5, knots=6)


# ---------------------------------------------------------------------- limits
def test_candidates_and_actions_keep_limits_and_rates() -> None:
    planner = Limited(CEM(horizon=5, num_samples=64, std=1.0, num_elites=8), low=-0.5, high=0.8, rate=0.3)
    memory = planner.executed(planner.init(1), jnp.array([0.7]))
    actions = np.asarray(planner.ask(memory, None, KEY))
    assert actions.min() >= -0.5
    assert actions.max() <= 0.8
    steps = np.diff(actions, axis=1, prepend=0.7)
    assert np.abs(steps).max() == pytest.approx(0.3, abs=1e-6)
    for seed in range(5):
        assert abs(float(planner.act(memory, True, jax.random.key(seed))[0]) - 0.7) <= 0.3 + 1e-6


# ---------------------------------------------------------------------- risk
def test_attitudes_to_risk() -> None:
    """A safe plan returns 1 in every world; a risky one 4 in three of four, and -4 in one: 2 on average."""
    worlds = jnp.array([[1.0, 4.0], [1.0, 4.0], [1.0, -4.0], [1.0, 4.0]])
    np.testing.assert_allclose(Mean()(worlds), [1.0, 2.0])
    np.testing.assert_allclose(CVaR(0.25)(worlds), [1.0, -4.0])
    np.testing.assert_allclose(CVaR(0.5)(worlds), [1.0, 0.0])
    np.testing.assert_allclose(CVaR(0.375)(worlds), [1.0, -4.0 / 3.0], rtol=1e-6)  # one world, and half of the next
    np.testing.assert_allclose(CVaR(1.0)(worlds), [1.0, 2.0])
    np.testing.assert_allclose(MeanMinusDeviation(1.0)(worlds), [1.0, 2.0 - np.sqrt(12.0)], rtol=1e-6)


@pytest.mark.parametrize("risk", [Mean(), CVaR(0.25), MeanMinusDeviation()])
def test_a_plan_that_fails_in_one_world_is_invalid(risk: Mean) -> None:
    scores = np.asarray(risk(jnp.array([[1.0, 1.0], [1.0, -jnp.inf], [1.0, 1.0], [1.0, 1.0]])))
    assert np.isfinite(scores[0])
    assert not np.isfinite(scores[1])


class Gamble(Model):
    """Action 1 is worth twice its size in most members, and a loss in one."""

    gain: jax.Array

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        return state, self.gain * action[0], jnp.ones(())


def test_an_ensemble_is_planned_in_by_its_worst_members() -> None:
    models = Gamble(jnp.array([2.0, 2.0, -4.0, 2.0]))
    planner = RandomShooting(horizon=1, num_samples=200)
    chosen = {}
    for risk in (Mean(), CVaR(0.25)):
        memory, _ = plan(planner, Members(models, risk), jnp.zeros(()), planner.init(1), KEY)
        chosen[type(risk)] = float(memory.best[0, 0])
    assert chosen[Mean] > 0.9
    assert abs(chosen[CVaR]) < 0.05  # any bet loses in some world


# ---------------------------------------------------------------------- discrete actions
@pytest.mark.parametrize("refit", ["shooting", "cem", "mppi"])
def test_discrete_actions_find_the_password(refit: str) -> None:
    """The return counts the right ones of 5 actions out of 3; 243 plans in all."""
    password = jax.nn.one_hot(jnp.array([2, 0, 1, 1, 2]), 3)
    planner = Discrete(horizon=5, num_samples=200, iterations=8, refit=refit)
    score = jax.vmap(lambda actions: jnp.sum(actions * password))
    memory, _ = jax.jit(lambda: search(planner, score, planner.init(3), KEY))()
    np.testing.assert_array_equal(memory.best, password)
    np.testing.assert_array_equal(planner.act(memory, False, KEY), password[0])
    actions = np.asarray(planner.ask(memory, None, KEY))
    assert set(np.unique(actions)) == {0.0, 1.0}
    np.testing.assert_array_equal(actions.sum(axis=-1), 1.0)


# ---------------------------------------------------------------------- one loop, compiled or not
@pytest.mark.parametrize(
    "planner",
    [
        ICEM(horizon=4, num_samples=32, num_elites=6, iterations=3, decay=1.5),
        MPPI(horizon=4, num_samples=32, num_elites=6, num_proposals=0, iterations=3),
    ],
)
def test_a_planner_never_knows_who_scores(planner: ICEM | MPPI) -> None:
    """The same plan from a compiled score and from one on the host, and the same count of what is invalid."""

    def score(actions):  # type: ignore[no-untyped-def]
        total = -((actions - 0.3) ** 2).sum(axis=(1, 2))
        return (jnp if isinstance(actions, jax.Array) else np).where(actions[:, 0, 0] > 0.9, np.nan, total)

    compiled, invalid = jax.jit(lambda: search(planner, score, planner.init(2), KEY))()
    plain, count = plan_on_host(planner, score, planner.init(2), KEY)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert count == int(invalid)


def test_candidates_of_a_plan_share_their_random_numbers() -> None:
    """Where a reward is only noise, no candidate is better than another."""

    class Noise(Model):
        def step(self, state, action, key):  # type: ignore[no-untyped-def]
            return state, jax.random.normal(key), jnp.ones(())

    planner = RandomShooting(horizon=3, num_samples=50)
    memory, _ = plan(planner, Noise(), jnp.zeros(()), planner.init(1), KEY)
    np.testing.assert_array_equal(memory.best, 0.0)  # the first of equals


def test_mppi_plans_as_td_mpc2_does() -> None:
    """Written out once more: what all planners share must not change the plans of an agent that is being trained."""

    class Latent(Model):
        weight: jax.Array

        def step(self, state, action, key):  # type: ignore[no-untyped-def]
            state = jnp.tanh(self.weight @ jnp.concatenate([state, action]))
            return state, jnp.sum(state) + jax.random.normal(key), jnp.float32(0.99)

        def value(self, state, key):  # type: ignore[no-untyped-def]
            return jnp.sum(state)

        def prior(self, state, key):  # type: ignore[no-untyped-def]
            return jnp.tanh(state[:2] + jax.random.normal(key, (2,)))

    planner = MPPI(num_samples=64, num_elites=8, num_proposals=8, iterations=4)
    model, state = Latent(jax.random.normal(jax.random.key(1), (5, 7))), jnp.ones(5)

    def written_out(memory, key):  # type: ignore[no-untyped-def]
        prior_key, score_key, loop_key = jax.random.split(key, 3)
        offered = proposals(model, state, planner.horizon, 8, prior_key)

        def turn(carry, key):  # type: ignore[no-untyped-def]
            memory, invalid = carry
            mean, std = memory.mean, memory.std
            noise = jax.random.normal(key, (64 - 8 - 1, *mean.shape), jnp.float32)
            samples = jnp.clip(mean[None] + std[None] * noise, -1.0, 1.0)
            actions = jnp.concatenate([offered, mean[None], samples])
            scores = jax.vmap(lambda actions: returns(model, state, actions, score_key))(actions)
            valid = jnp.isfinite(scores)
            memory = planner.tell(memory, actions, jnp.where(valid, scores, -jnp.inf))
            return (memory, invalid + jnp.sum(~valid, dtype=jnp.int32)), None

        ahead = jnp.concatenate([memory.mean[1:], jnp.zeros_like(memory.mean[:1])])
        memory = replace(memory, mean=ahead, std=jnp.full_like(memory.std, planner.max_std))
        return jax.lax.scan(turn, (memory, jnp.zeros((), jnp.int32)), jax.random.split(loop_key, 4))[0]

    ours = theirs = planner.init(2)
    for key in jax.random.split(KEY, 3):
        ours, _ = jax.jit(plan, static_argnums=0)(planner, model, state, ours, key)
        theirs, _ = jax.jit(written_out)(theirs, key)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)  # compiled apart: the last bits may differ
