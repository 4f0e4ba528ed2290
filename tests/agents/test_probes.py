"""Small worlds whose values are known: what TD-MPC2's critics must converge to."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import TD_MPC2
from probes import corridor, hazard, loop, one_hot

from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_parts import Critic
from foreplan.core.replay import Replay
from foreplan.core.types import Spec

DISCOUNT = 0.8
AGENT = replace(
    TD_MPC2,
    network=replace(TD_MPC2.network, dropout=0.0),
    optimiser=replace(TD_MPC2.optimiser, lr=2e-3),
    batch_size=64,
    discount=DISCOUNT,
    target_rate=0.1,
)


SCALED = replace(AGENT, critic=Critic(scale_returns=5.0))


def learned(replay: Replay, spec: Spec, updates: int = 600, agent: TDMPC2 = AGENT) -> Any:
    learner = agent.init(spec, jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), updates // 100):
        learner, _ = agent.learn(learner, replay, key, 100)
    return learner


def values(learner: Any, rooms: list[int]) -> np.ndarray:
    """The mean of the critics in each room, over a few actions."""
    world = learner.world
    actions = jnp.linspace(-0.9, 0.9, 5)[:, None]

    @jax.jit
    def q(obs: jax.Array, action: jax.Array) -> jax.Array:
        logits = world.q_logits(world.encode(obs), action)
        return jnp.mean(jax.vmap(world.value)(logits))

    return np.array([np.mean([q(jnp.asarray(one_hot(room, 8)), action) for action in actions]) for room in rooms])


@pytest.mark.parametrize(("agent", "reward"), [(AGENT, 1.0), (SCALED, 1.0), (SCALED, 300.0)])
def test_a_time_limit_does_not_end_the_future(agent: TDMPC2, reward: float) -> None:
    """A reward for ever is worth 1 / (1 - discount) of it, however short the episodes are cut (PITFALLS 1). Where
    returns are scaled that is the outermost bin, 25 bins from the first guess, which a mean reaches slowly."""
    updates, tolerance = (600, 0.05) if agent is AGENT else (1500, 0.1)
    learner = learned(*loop(reward=reward, limit=4), updates=updates, agent=agent)
    np.testing.assert_allclose(values(learner, list(range(8))), reward / (1.0 - DISCOUNT), rtol=tolerance)


@pytest.mark.parametrize("agent", [AGENT, SCALED])
def test_termination_does_end_it(agent: TDMPC2) -> None:
    """The same rewards, but the episode terminates after four: a finite sum."""
    learner = learned(*corridor(4, rewards=[1.0] * 4, terminates=True), agent=agent)
    expected = [sum(DISCOUNT**i for i in range(4 - t)) for t in range(4)]
    np.testing.assert_allclose(values(learner, [0, 1, 2, 3]), expected, rtol=0.05)


def test_a_reward_at_termination_alone_is_learned_and_discounted() -> None:
    """(PITFALLS 2)"""
    learner = learned(*corridor(4, rewards=[0.0, 0.0, 0.0, 10.0], terminates=True))
    np.testing.assert_allclose(values(learner, [0, 1, 2, 3]), [10 * DISCOUNT**k for k in (3, 2, 1, 0)], rtol=0.06)


def test_an_environment_that_dies_in_two_steps_is_learned_from() -> None:
    """Its episodes are shorter than the horizon of three (PITFALLS 4)."""
    learner = learned(*corridor(2, rewards=[1.0, -5.0], terminates=True))
    np.testing.assert_allclose(values(learner, [0, 1]), [1.0 - 5.0 * DISCOUNT, -5.0], atol=0.25)


def test_the_continuation_head_knows_where_episodes_end() -> None:
    learner = learned(*corridor(4, rewards=[0.0] * 4, terminates=True))
    world = learner.world

    def odds(room: int) -> float:
        z = world.next(world.encode(jnp.asarray(one_hot(room, 8))), jnp.zeros(1))
        return float(jax.nn.sigmoid(world.continue_logit(z)))

    assert odds(3) < 0.1
    assert min(odds(room) for room in range(3)) > 0.9


def test_rare_ends_are_foretold_as_often_as_they_come() -> None:
    """One step in 32 ends an episode, and only into one room: calibrated there, near 1 elsewhere (PITFALLS 9)."""
    replay, spec = hazard(0.25, steps=1024)
    world = learned(replay, spec, updates=400).world

    def going_on(room: int) -> float:
        z = world.next(world.encode(jnp.asarray(one_hot((room - 1) % 8, 8))), jnp.zeros(1))
        return float(jax.nn.sigmoid(world.continue_logit(z)))

    assert min(going_on(room) for room in range(1, 8)) > 0.97
    came = np.asarray(replay.steps.next_obs)[:, 0, 0] == 1.0
    assert going_on(0) == pytest.approx(1.0 - np.asarray(replay.steps.terminated)[came, 0].mean(), abs=0.1)


@pytest.mark.parametrize(
    ("episode_length", "discount"), [(None, 0.99), (10, 0.95), (500, 0.99), (200, 0.975), (100_000, 0.99)]
)
def test_the_discount_follows_the_length_of_episodes_where_it_is_known(
    episode_length: int | None, discount: float
) -> None:
    """(PITFALLS 12)"""
    agent = replace(AGENT, discount=None)
    assert agent.discount_for(episode_length) == pytest.approx(discount)
    assert AGENT.discount_for(episode_length) == DISCOUNT


@pytest.mark.parametrize(("episode_length", "decisions"), [(500, 2500), (50, 1000), (None, 1000)])
def test_it_begins_with_some_episodes_at_random(episode_length: int | None, decisions: int) -> None:
    agent = replace(AGENT, min_seed_steps=1000, seed_episodes=5)
    assert agent.seed_steps(Spec(obs_shape=(3,), action_dim=1, episode_length=episode_length)) == decisions
