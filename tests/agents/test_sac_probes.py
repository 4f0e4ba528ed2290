"""Small worlds whose values are known: what SAC's critics must converge to, in every form that they have.

The temperature is nothing, so that entropy is worth nothing.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CROSSQ_SAC, PLAIN_SAC, SIMBA_SAC, timestep
from probes import corridor, loop, one_hot

from foreplan.agents.sac import SAC, Entropy
from foreplan.agents.sac import Optimiser as Rates
from foreplan.core.replay import Replay
from foreplan.core.types import Spec

DISCOUNT = 0.8


def without_entropy(agent: SAC, rate: float) -> SAC:
    data = replace(agent.data, batch_size=64, fade=0.0)
    rates = Rates(rate, rate, 0.0, agent.optimiser.b1)
    entropy, critic = Entropy(initial=1e-6), replace(agent.critic, target_rate=agent.critic.target_rate and 0.1)
    return replace(agent, discount=DISCOUNT, data=data, entropy=entropy, optimiser=rates, critic=critic)


FORMS = {
    "plain": without_entropy(PLAIN_SAC, 3e-3),
    "hypersphere, categorical, scaled": without_entropy(SIMBA_SAC, 1e-2),
    "batch norm, no targets": without_entropy(CROSSQ_SAC, 3e-3),
}


def values(agent: SAC, replay: Replay, spec: Spec, rooms: int, updates: int = 600) -> np.ndarray:
    """The critics' opinion of each room after so many updates, in units of the rewards."""
    learner = agent.init(spec, jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), updates // 100):
        learner, _ = agent.learn(learner, replay, key, 100)
    obs = jnp.stack([jnp.asarray(one_hot(room, 8)) for room in range(rooms)])
    limit = agent.data.scale_returns
    scale = 1.0 if limit is None else float(learner.statistics.returns.value(limit))
    return scale * np.asarray(jax.jit(agent.value)(learner, obs))


@pytest.mark.parametrize("form", FORMS)
def test_a_time_limit_does_not_end_the_future(form: str) -> None:
    """A reward of 1 for ever is worth 1 / (1 - discount), however short the episodes are cut (PITFALLS 1)."""
    found = values(FORMS[form], *loop(reward=1.0, limit=4), rooms=8)
    np.testing.assert_allclose(found, 1.0 / (1.0 - DISCOUNT), rtol=0.08)


@pytest.mark.parametrize("form", FORMS)
def test_termination_does_end_it(form: str) -> None:
    """Rewards of 1 and of 5 in the end, and the episode terminates after four (PITFALLS 2)."""
    found = values(FORMS[form], *corridor(4, rewards=[1.0, 1.0, 1.0, 5.0], terminates=True), rooms=4)
    expected = [sum(DISCOUNT**i for i in range(3 - t)) + 5 * DISCOUNT ** (3 - t) for t in range(4)]
    np.testing.assert_allclose(found, expected, rtol=0.08)


@pytest.mark.parametrize(("cloning", "learned"), [(0.4, True), (0.0, False)])
def test_the_policy_is_pulled_towards_demonstrated_actions_alone(cloning: float, learned: bool) -> None:
    """All actions are worth the same; demonstrations do 0.6 everywhere, what was done otherwise counts for nothing."""
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=True)
    demos = eqx.tree_at(lambda r: r.steps.action, replay, jnp.full_like(replay.steps.action, 0.6))
    agent = replace(FORMS["plain"], cloning=cloning)
    learner = agent.init(spec, jax.random.key(0))
    learner, _ = agent.learn(learner, replace(replay, demos=demos, demo_share=0.5), jax.random.key(1), 300)
    rooms = jnp.stack([jnp.asarray(one_hot(room, 8)) for room in range(4)])
    modes = agent.modes(jax.vmap(learner.policy)(rooms))
    assert np.allclose(modes, 0.6, atol=0.1) == learned


def test_statistics_begin_with_the_demonstrations() -> None:
    """Once, and what is stored later is added: means over all rooms, and the largest return of either."""
    agent = SIMBA_SAC
    shown, spec = corridor(4, rewards=[9.0] * 4, terminates=True)
    own, _ = corridor(2, rewards=[1.0] * 2, terminates=True, steps=128)
    replay = replace(own, demos=shown, demo_share=0.5)
    learner = agent.init(spec, jax.random.key(0))
    for seed in range(2):  # the second time there is nothing new
        learner, _ = agent.learn(learner, replay, jax.random.key(seed), 1)
    rooms = np.concatenate([np.eye(8)[np.arange(256) % 4], np.eye(8)[np.arange(128) % 2]])
    np.testing.assert_allclose(learner.statistics.obs.mean, rooms.mean(axis=0), atol=1e-5)
    assert learner.statistics.obs.count == 384
    assert learner.statistics.returns.largest == pytest.approx(9.0 * sum(agent.discount**i for i in range(4)), rel=1e-5)


def test_evaluation_acts_by_averaged_weights_and_exploration_does_not() -> None:
    agent = replace(PLAIN_SAC, averaging=0.25)
    replay, spec = corridor(4, rewards=[1.0] * 4, terminates=False)
    learner = agent.init(spec, jax.random.key(0))
    before = jax.tree.map(jnp.copy, learner.policy)
    learner, _ = agent.learn(learner, replay, jax.random.key(1), 1)
    for old, new, mean in zip(*map(jax.tree.leaves, (before, learner.policy, learner.average)), strict=True):
        np.testing.assert_allclose(mean, old + 0.25 * (new - old), rtol=1e-6, atol=1e-7)
    far = jax.tree.map(lambda x: x + 1.0, learner.average)
    step = timestep(np.zeros((1, *spec.obs_shape)))
    for explore in (False, True):
        near, moved = (
            agent.act(replace(learner, average=average), step, (), jax.random.key(2), explore)[0]
            for average in (learner.average, far)
        )
        assert np.array_equal(near, moved) == explore
