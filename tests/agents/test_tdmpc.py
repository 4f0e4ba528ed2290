"""What is particular to TD-MPC2: the look ahead in its world, and what it costs."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import TD_MPC2, copy, timestep
from probes import corridor, one_hot

from foreplan.agents.mpc import InAgent
from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_parts import Critic
from foreplan.core.model import returns
from foreplan.core.replay import draw
from foreplan.core.types import Spec
from foreplan.worlds.latent import Imagination

SPEC = Spec(obs_shape=(4,), action_dim=2, episode_length=50)


def act_flops(agent: TDMPC2) -> float:
    """The floating point operations of one planned action, as the compiler counts them."""
    learner, memory = agent.init(SPEC, jax.random.key(0)), agent.memory(SPEC)
    program = jax.jit(partial(agent.act, explore=True))
    step = timestep(np.zeros((1, 4)))
    return program.lower(learner, step, memory, jax.random.key(0)).cost_analysis()["flops"]


def test_heads_are_chosen_before_they_are_computed() -> None:
    """Eight more heads cost nothing in the plan (PITFALLS 39)."""
    two, ten = (act_flops(replace(TD_MPC2, network=replace(TD_MPC2.network, heads=heads))) for heads in (2, 10))
    assert ten < 1.02 * two
    wide = act_flops(replace(TD_MPC2, network=replace(TD_MPC2.network, width=64)))
    assert wide > 1.5 * two  # the count does see what is computed


def imagination(bias: float | None) -> Imagination:
    """A world in which an episode goes on with log-odds `bias` in every state; None: it cannot end."""
    spec = replace(SPEC, terminates=bias is not None)
    learner = TD_MPC2.init(spec, jax.random.key(0))
    world = learner.world
    random = jax.random.normal(jax.random.key(1), world.critics.members.last.weight.shape)
    world = eqx.tree_at(lambda w: w.critics.members.last.weight, world, random)
    reward = jax.random.normal(jax.random.key(2), world.reward.last.weight.shape)
    world = eqx.tree_at(lambda w: w.reward.last.weight, world, reward)
    if bias is not None:
        world = eqx.tree_at(lambda w: w.continuation.last.weight, world, jnp.zeros_like(world.continuation.last.weight))
        world = eqx.tree_at(lambda w: w.continuation.last.bias, world, jnp.full((1,), bias))
    return Imagination(world, learner.policy, world.critics, jnp.float32(0.9))


@jax.jit
def score(model: Imagination) -> tuple[jax.Array, jax.Array]:
    """(return of three actions and what lies beyond, reward of the first)."""
    z = model.world.encode(jnp.array([0.1, -0.5, 0.8, 0.0]))
    actions = jax.random.uniform(jax.random.key(3), (3, 2), jnp.float32, -1.0, 1.0)
    _, reward, _ = model.step(z, actions[0], jax.random.key(4))
    return returns(model, z, actions, jax.random.key(4)), reward


def test_certain_termination_contributes_nothing_beyond() -> None:
    """(PITFALLS 8 and 9)"""
    total, first = score(imagination(bias=-100.0))
    assert float(total) == pytest.approx(float(first), abs=1e-6)


def test_certain_continuation_is_as_if_there_were_no_end() -> None:
    going_on, first = score(imagination(bias=100.0))
    endless, _ = score(imagination(bias=None))
    assert float(going_on) == pytest.approx(float(endless), rel=1e-4)
    assert abs(float(going_on) - float(first)) > 1e-2


def test_an_uncertain_end_is_weighed_softly() -> None:
    """Even odds halve what lies beyond; a threshold would keep all of it or nothing."""
    z_discount = imagination(bias=0.0)
    z = z_discount.world.encode(jnp.zeros(4))
    _, _, discount = z_discount.step(z, jnp.zeros(2), jax.random.key(0))
    assert float(discount) == pytest.approx(0.45)


def test_a_pessimistic_search_believes_the_least_critic() -> None:
    hopeful = imagination(bias=None)
    z, key = hopeful.world.encode(jnp.array([0.1, -0.5, 0.8, 0.0])), jax.random.key(0)
    each = hopeful.world.q_values(hopeful.critics, z, hopeful.prior(z, key), hopeful.discount)
    assert float(jnp.max(each) - jnp.min(each)) > 1e-3
    assert float(hopeful.value(z, key)) == pytest.approx(float(jnp.mean(each)), rel=1e-5)
    assert float(replace(hopeful, pessimistic=True).value(z, key)) == pytest.approx(float(jnp.min(each)), rel=1e-5)


def test_critics_begin_at_zero_and_heads_differ() -> None:
    """(PITFALLS 13)"""
    critics = TD_MPC2.init(SPEC, jax.random.key(0)).world.critics.members
    np.testing.assert_array_equal(critics.last.weight, 0.0)
    first = np.asarray(critics.blocks[0].linear.weight)
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_targets_start_as_the_critics_and_follow_slowly() -> None:
    learner = TD_MPC2.init(SPEC, jax.random.key(0))
    for online, target in zip(
        jax.tree.leaves(learner.world.critics), jax.tree.leaves(learner.target_critics), strict=True
    ):
        np.testing.assert_array_equal(online, target)
        assert online.unsafe_buffer_pointer() != target.unsafe_buffer_pointer()  # else neither could be donated


def test_evaluation_acts_by_averaged_weights_and_exploration_does_not() -> None:
    agent = replace(TD_MPC2, averaging=0.25)
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=False)
    learner = agent.init(spec, jax.random.key(0))
    before = copy((learner.world, learner.policy))
    learner, _ = agent.learn(learner, replay, jax.random.key(1), 1)
    after = learner.world, learner.policy
    for old, new, mean in zip(*map(jax.tree.leaves, (before, after, learner.average)), strict=True):
        np.testing.assert_allclose(mean, old + 0.25 * (new - old), rtol=1e-6, atol=1e-7)
    far = jax.tree.map(lambda x: x + 1.0, learner.average)
    step, memory, key = timestep(np.zeros((1, *spec.obs_shape)), [True]), agent.memory(spec), jax.random.key(2)
    for explore in (False, True):
        near, moved = (
            agent.act(replace(learner, average=average), step, memory, key, explore)[0]
            for average in (learner.average, far)
        )
        assert np.array_equal(near, moved) == explore


def test_a_world_that_has_diverged_is_reported_and_acted_in_safely() -> None:
    learner = TD_MPC2.init(SPEC, jax.random.key(0))
    learner = eqx.tree_at(
        lambda x: x.world.reward.last.bias, learner, jnp.full_like(learner.world.reward.last.bias, jnp.nan)
    )
    actions, memory, metrics = TD_MPC2.act(
        learner, timestep(np.zeros((1, 4)), [True]), TD_MPC2.memory(SPEC), jax.random.key(1), True
    )
    planner = TD_MPC2.planner
    assert int(metrics["invalid_plans"]) == planner.iterations * planner.num_samples
    assert np.isfinite(actions).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(memory))


@pytest.mark.parametrize(("cloning", "learned"), [(1.0, True), (0.0, False)])
def test_the_policy_is_pulled_towards_demonstrated_actions_alone(cloning: float, learned: bool) -> None:
    """Nothing is rewarded; demonstrations do 0.6 everywhere, what was done otherwise counts for nothing."""
    replay, spec = corridor(4, rewards=[0.0] * 4, terminates=False)
    demos = eqx.tree_at(lambda r: r.steps.action, replay, jnp.full_like(replay.steps.action, 0.6))
    agent = replace(TD_MPC2, losses=replace(TD_MPC2.losses, cloning=cloning))
    learner = agent.init(spec, jax.random.key(0))
    learner, _ = agent.learn(learner, replace(replay, demos=demos, demo_share=0.5), jax.random.key(1), 200)
    rooms = jnp.stack([jnp.asarray(one_hot(room, 8)) for room in range(4)])
    modes = jax.vmap(lambda obs: jnp.tanh(learner.policy(learner.world.encode(obs))[0]))(rooms)
    assert np.allclose(modes, 0.6, atol=0.1) == learned


@pytest.mark.parametrize("steps", [1, 3])
def test_a_target_holds_the_rewards_that_are_asked_for(steps: int) -> None:
    """The critics begin at 0. Rewards of 1, and the episode terminates after four (PITFALLS 2)."""
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    agent = replace(TD_MPC2, critic=Critic(n_step=steps), discount=0.9)
    window = draw(replay, 64, agent.window, jax.random.key(0))
    _, targets = agent.td_targets(agent.init(spec, jax.random.key(0)), window, jax.random.key(1))
    left = 4 - np.argmax(window.obs[:, 0], axis=1)
    expected = [sum(0.9**i for i in range(min(steps, number))) for number in left]
    np.testing.assert_allclose(targets[:, 0], expected, atol=1e-4)


def test_what_it_imagines_is_what_its_world_says_step_by_step() -> None:
    model = imagination(bias=None)
    learner = replace(TD_MPC2.init(replace(SPEC, terminates=False), jax.random.key(0)), world=model.world)
    obs, actions = jnp.array([0.1, -0.5, 0.8, 0.0]), jax.random.uniform(jax.random.key(1), (4, 2), jnp.float32, -1, 1)
    foretold = InAgent(TD_MPC2).imagine(learner, obs, actions)["reward"]
    z = model.world.encode(obs)
    for action, reward in zip(actions, foretold, strict=True):
        z, expected, _ = model.step(z, action, jax.random.key(0))
        assert float(reward) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
    assert np.ptp(foretold) > 1e-3
