"""The forms that TD-MPC's value, targets and policy can take: each against what it must compute."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import TD_MPC, TD_MPC2, timestep
from probes import corridor, one_hot

from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_parts import Critic, Learner
from foreplan.core.errors import UsageError
from foreplan.core.maths import symlog
from foreplan.core.model import returns
from foreplan.core.replay import Priority, Replay, draw
from foreplan.core.types import Spec
from foreplan.nn.dists import NoisyTanh
from foreplan.planners.gradient import Gradient
from foreplan.planners.ilqr import ILQR
from foreplan.planners.sampling import plan

SPEC = Spec(obs_shape=(4,), action_dim=2, episode_length=50)
KEY = jax.random.key(0)
Z_OBS, ACTION = jnp.array([0.1, -0.5, 0.8, 0.0]), jnp.array([0.3, -0.6])


def of(critic: Critic) -> TDMPC2:
    return replace(TD_MPC2, critic=critic, discount=0.9)


def opinionated(agent: TDMPC2, spec: Spec = SPEC) -> Learner:
    """A learner whose heads do not begin at 0."""
    learner = agent.init(spec, KEY)
    for number, part in enumerate((lambda w: w.reward.last.weight, lambda w: w.critics.members.last.weight)):
        random = 0.3 * jax.random.normal(jax.random.key(number), part(learner.world).shape)
        learner = eqx.tree_at(lambda x, part=part: part(x.world), learner, random)
    return replace(learner, target_critics=learner.world.critics)


def test_a_critic_of_the_next_latent_is_reward_and_what_remains() -> None:
    learner = opinionated(of(Critic(sees="next")))
    world = learner.world
    z = world.encode(Z_OBS)
    after = world.next(z, ACTION)
    going_on = jax.nn.sigmoid(world.continue_logit(after))
    values = jax.vmap(world.two_hot.decode)(world.critics(after))
    expected = world.two_hot.decode(world.reward_logits(z, ACTION)) + 0.9 * going_on * values
    found = world.q_values(world.critics, z, ACTION, learner.discount)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 1e-3  # the heads differ
    model = of(Critic(sees="next", search="mean")).imagination(learner, KEY)
    np.testing.assert_allclose(model.value(after, KEY), np.mean(values), rtol=1e-5)


def test_values_of_scaled_returns_are_in_units_of_the_rewards() -> None:
    """Returns of up to four rewards of 100 deviate by more than a fifth of the largest, so by their deviation they are
    divided; no gradient changes that. A value is decoded by it, and its loss is least where it is the target."""
    agent = replace(of(Critic(scale_returns=5.0)), min_seed_steps=0)
    replay, spec = corridor(4, rewards=[100.0] * 4, terminates=True)
    learner, _ = agent.learn(agent.init(spec, KEY), replay, KEY, 3)
    world, unit = learner.world, float(np.std(100.0 * np.cumsum(0.9 ** np.arange(4))))
    assert float(world.scale) == pytest.approx(unit, rel=1e-5)
    logits = jnp.log(world.values.encode(jnp.float32(2.34)) + 1e-12)
    assert float(world.value(logits)) == pytest.approx(2.34 * unit, rel=1e-4)
    slope = jax.grad(world.value_loss)(logits, jnp.float32(2.34 * unit))
    np.testing.assert_allclose(slope, 0.0, atol=1e-5)
    z, heads = world.encode(jnp.asarray(one_hot(0, 8))), world.critics
    slopes = jax.grad(lambda w: w.q_values(heads, z, jnp.zeros(1), learner.discount)[0])(world)
    assert float(slopes.scale) == 0.0


def test_a_critic_of_the_next_latent_is_fitted_to_what_remains() -> None:
    """Rewards of 1 in episodes that terminate after four, all of them in the targets: nothing remains at the end."""
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    agent = of(Critic(n_step=4, sees="next"))
    window = draw(replay, 64, agent.window, KEY)
    _, targets = jax.jit(agent.td_targets)(agent.init(spec, KEY), window, KEY)
    left = 4 - np.argmax(window.obs[:, 0], axis=1)
    np.testing.assert_allclose(targets[:, 0], [sum(0.9**i for i in range(number - 1)) for number in left], atol=1e-4)


def test_a_critic_that_sees_the_reward_leaves_the_reward_alone() -> None:
    learner = opinionated(of(Critic(sees="reward")))
    world = learner.world
    z = world.encode(Z_OBS)
    reward = world.two_hot.decode(world.reward_logits(z, ACTION))
    np.testing.assert_allclose(world.seen(z, ACTION), jnp.concatenate([z, ACTION, symlog(reward)[None]]), rtol=1e-6)
    gradient = jax.grad(lambda w: jnp.sum(w.q_values(w.critics, z, ACTION, learner.discount)))(world)
    assert all((np.asarray(leaf) == 0.0).all() for leaf in jax.tree.leaves(gradient.reward))
    assert any((np.asarray(leaf) != 0.0).any() for leaf in jax.tree.leaves(gradient.critics))


@pytest.mark.parametrize("sees", ["reward", "next"])  # for "action" see test_probes.py
def test_critics_of_every_form_learn_what_is_to_come(sees) -> None:  # type: ignore[no-untyped-def]
    """A reward of 10 at termination alone (PITFALLS 2)."""
    replay, spec = corridor(4, rewards=[0.0, 0.0, 0.0, 10.0], terminates=True)
    network, rates = replace(TD_MPC2.network, dropout=0.0), replace(TD_MPC2.optimiser, lr=2e-3)
    agent = replace(TD_MPC2, network=network, optimiser=rates, batch_size=64, discount=0.8, target_rate=0.1)
    agent = replace(agent, critic=Critic(sees=sees))
    learner = agent.init(spec, KEY)
    for key in jax.random.split(jax.random.key(1), 6):
        learner, _ = agent.learn(learner, replay, key, 100)
    q = jax.jit(lambda w, obs: jnp.mean(w.q_values(w.critics, w.encode(obs), jnp.zeros(1), learner.discount)))
    found = [q(learner.world, jnp.asarray(one_hot(room, 8))) for room in range(4)]
    np.testing.assert_allclose(found, [10 * 0.8**k for k in (3, 2, 1, 0)], rtol=0.08)


@pytest.mark.parametrize(
    ("critic", "rewards"), [(Critic("lambda", n_step=3, td_lambda=0.5), 3), (Critic("return", longest=10), 10)]
)
def test_targets_by_name(critic: Critic, rewards: int) -> None:
    """Values of 0, rewards of 1, an end after four: the sum of (0.9 weight)^i, of at most so many rewards."""
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    agent, weight = of(critic), 0.5 if critic.target == "lambda" else 1.0
    window = draw(replay, 64, agent.window, KEY)
    _, targets = jax.jit(agent.td_targets)(agent.init(spec, KEY), window, KEY)
    left = 4 - np.argmax(window.obs[:, 0], axis=1)
    expected = [sum((0.9 * weight) ** i for i in range(min(rewards, number))) for number in left]
    np.testing.assert_allclose(targets[:, 0], expected, atol=1e-4)


def test_the_search_asks_the_heads_that_it_is_told_to() -> None:
    learner = opinionated(TD_MPC2)
    z = learner.world.encode(Z_OBS)
    model = {search: of(Critic(search=search)).imagination(learner, KEY) for search in ("two", "mean", "min")}
    every = learner.world.q_values(learner.world.critics, z, model["mean"].prior(z, KEY), learner.discount)
    assert [model[search].critics.heads for search in ("two", "mean", "min")] == [2, 3, 3]
    np.testing.assert_allclose(model["mean"].value(z, KEY), np.mean(every), rtol=1e-5)
    np.testing.assert_allclose(model["min"].value(z, KEY), np.min(every), rtol=1e-5)


def test_a_cautious_search_explores_by_two_heads_and_else_believes_the_least() -> None:
    agent, learner = of(Critic(search="cautious")), opinionated(TD_MPC2)
    bold, careful = (agent.imagination(learner, KEY, explore) for explore in (True, False))
    assert (bold.critics.heads, bold.pessimistic) == (2, False)
    assert (careful.critics.heads, careful.pessimistic) == (3, True)
    assert agent.look_ahead(learner, Z_OBS, KEY)[0].pessimistic


def test_planners_that_derive_plan_in_the_latent_world() -> None:
    """Twice through networks whose gradients are written out."""
    agent, learner = of(Critic(search="mean")), opinionated(TD_MPC2)
    model, z = agent.look_ahead(learner, Z_OBS, KEY)
    idle = jnp.zeros((3, 2))
    for planner in (ILQR(horizon=3), Gradient(horizon=3)):
        memory, invalid = jax.jit(plan, static_argnums=0)(planner, model, z, planner.init(2), KEY)
        assert int(invalid) == 0
        assert returns(model, z, memory.best, KEY) > returns(model, z, idle, KEY) + 1e-3, planner


def test_the_depths_of_a_plan() -> None:
    none, some, all_of_it = (jnp.asarray(n, jnp.int32) for n in (0, 50, 1000))
    assert Critic().weights(3, none) is None
    np.testing.assert_allclose(Critic(depths="every").weights(4, none), 0.25)
    growing = Critic(depths="growing", growth=100)
    for updates, expected in ((none, [1, 0, 0]), (some, [0, 1, 0]), (all_of_it, [0, 0, 1])):
        np.testing.assert_array_equal(growing.weights(3, updates), expected)


@pytest.mark.parametrize("field", [{"n_step": 0}, {"longest": 0}, {"growth": 0}, {"td_lambda": 1.5}])
def test_senseless_critics_are_refused(field) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=f"critic.{next(iter(field))} is"):
        Critic(**field)


@pytest.mark.parametrize("exponents", [(-1.0, 0.4), (0.6, -0.1), (float("nan"), 0.4)])
def test_senseless_priorities_are_refused(exponents) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=r"priority\.\w+ is .*; accepted: numbers from 0"):
        Priority(*exponents)


def test_plans_that_nobody_learns_from_are_not_made_anew() -> None:
    with pytest.raises(UsageError, match=r"reanalyse is 2 with losses\.distil 0\.0"):
        replace(TD_MPC2, reanalyse=2)


# ---------------------------------------------------------------------- distilling the planner
def planned(plan: float, share: bool) -> tuple[Replay, Spec]:
    """Nothing is rewarded; the planner chose `plan` everywhere, or, where not `share`, was never asked."""
    replay, spec = corridor(4, rewards=[0.0] * 4, terminates=False)
    rows = replay.steps.action.shape[:2]
    extras = {"plan": jnp.full_like(replay.steps.action, plan), "planned": jnp.full(rows, share)}
    return replace(replay, steps=replace(replay.steps, extras=extras)), spec


DISTILLED = replace(TD_MPC2, losses=replace(TD_MPC2.losses, policy=0.0, distil=1.0), reanalyse=4)


@pytest.mark.parametrize("asked", [True, False])
def test_the_policy_learns_what_the_planner_chose(asked: bool) -> None:
    replay, spec = planned(0.6, asked)
    learner, _ = DISTILLED.learn(DISTILLED.init(spec, KEY), replay, jax.random.key(1), 200)
    rooms = jnp.stack([jnp.asarray(one_hot(room, 8)) for room in range(4)])
    modes = jax.vmap(lambda obs: jnp.tanh(learner.policy(learner.world.encode(obs))[0]))(rooms)
    assert np.allclose(modes, 0.6, atol=0.1) == asked


def test_reanalysis_plans_anew_in_as_many_states_as_are_asked_for() -> None:
    replay, spec = planned(5.0, False)
    before = np.asarray(replay.steps.extras["plan"])
    again = DISTILLED.relabel(DISTILLED.init(spec, KEY), replay, jax.random.key(1))
    after, known = np.asarray(again.steps.extras["plan"]), np.asarray(again.steps.extras["planned"])
    assert 1 <= known.sum() <= 4
    assert (np.abs(after[known]) <= 1.0).all()
    np.testing.assert_array_equal(after[~known], before[~known])


def test_the_buffer_keeps_what_was_planned() -> None:
    learner, memory = DISTILLED.init(SPEC, KEY), DISTILLED.memory(SPEC)
    _, memory, notes = DISTILLED.act(learner, timestep(np.zeros((1, 4))), memory, KEY, True)
    np.testing.assert_array_equal(notes["plan"], memory.mean[:, 0])
    assert notes["planned"].all()
    assert set(DISTILLED.extras(SPEC)) == {"plan", "planned"}
    assert TD_MPC2.extras(SPEC) == {}


# ---------------------------------------------------------------------- the TD-MPC of 2022
def test_the_original_has_scalar_heads_and_plain_latents() -> None:
    world = TD_MPC.init(SPEC, KEY).world
    z = world.encode(100.0 * Z_OBS)
    assert np.abs(np.sum(np.asarray(z).reshape(-1, 8), axis=1) - 1.0).max() > 0.1  # not simplices
    assert world.reward_logits(z, ACTION).shape == (1,)
    assert world.critics.members.blocks[0].activation == "tanh"
    assert world.critics.members.blocks[1].scale is None
    weight = np.asarray(world.dynamics.blocks[1].linear.weight)
    np.testing.assert_allclose(weight @ weight.T, np.eye(len(weight)), atol=1e-5)


def test_its_policy_is_noisy_around_its_mode_and_within_bounds() -> None:
    policy = NoisyTanh(jnp.array([0.5, 4.0]), std=0.2)
    draws, log_prob = jax.vmap(policy.sample)(jax.random.split(KEY, 4000))
    assert np.abs(draws).max() <= 1.0
    assert np.abs(draws[:, 0] - np.tanh(0.5)).max() == pytest.approx(0.3, abs=1e-5)
    np.testing.assert_allclose(np.mean(draws[:, 0]), np.tanh(0.5), atol=0.01)
    np.testing.assert_array_equal(log_prob, 0.0)
    slope = jax.jacobian(lambda outputs: NoisyTanh(outputs, 0.2).sample(KEY)[0])(jnp.array([0.5, 4.0]))
    np.testing.assert_allclose(np.diag(slope), 1.0 - np.tanh([0.5, 4.0]) ** 2, rtol=1e-3)


def test_its_latents_follow_a_slow_encoder() -> None:
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    learner = TD_MPC.init(spec, KEY)
    moved = eqx.tree_at(lambda x: x.target_encoder.last.bias, learner, jnp.ones_like(learner.target_encoder.last.bias))
    window = draw(replay, 8, TD_MPC.window, KEY)
    before, after = (jax.jit(TD_MPC.td_targets)(x, window, KEY)[0] for x in (learner, moved))
    np.testing.assert_allclose(after - before, 1.0, atol=1e-5)


def test_its_windows_are_drawn_by_the_critics_error() -> None:
    """What was learned from has its error as priority; the rest stays as new."""
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    extras = {"priority": jnp.zeros(replay.steps.reward.shape)}
    replay = replace(replay, steps=replace(replay.steps, extras=extras))
    learner, _ = TD_MPC.learn(TD_MPC.init(spec, KEY), replay, jax.random.key(1), 1)
    drawn = np.unique(np.asarray(learner.drawn.row))
    after = np.asarray(TD_MPC.relabel(learner, replay, KEY).steps.extras["priority"])[:, 0]
    assert (after[drawn] > 0.0).all()
    np.testing.assert_array_equal(np.delete(after, drawn), 0.0)
