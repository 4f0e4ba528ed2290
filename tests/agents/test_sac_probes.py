"""Small worlds whose values are known: what SAC's critics must converge to, in every form that they have.

The temperature is nothing, so that entropy is worth nothing.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CROSSQ_SAC, FRUGAL_SAC, PLAIN_SAC
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
    "hypersphere, categorical, scaled": without_entropy(FRUGAL_SAC, 1e-2),
    "batch norm, no targets": without_entropy(CROSSQ_SAC, 3e-3),
}


def values(agent: SAC, replay: Replay, spec: Spec, rooms: int, updates: int = 600) -> np.ndarray:
    """The critics' opinion of each room after so many updates, in units of the rewards."""
    learner = agent.init(spec, jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), updates // 100):
        learner, _ = agent.learn(learner, replay, key, 100)
    obs = jnp.stack([jnp.asarray(one_hot(room, 8)) for room in range(rooms)])
    limit = agent.data.scale_returns
    scale = 1.0 if limit is None else float(learner.returns.value(limit))
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
