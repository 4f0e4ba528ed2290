"""The value of planning ever on, where it is known."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PLAIN_MPC, SMALL_PETS

from foreplan.agents.planned_value import ValuePlanning, fit_planned
from foreplan.core.errors import UsageError
from foreplan.core.model import Model
from foreplan.core.replay import Replay, insert
from foreplan.core.types import Spec, Step
from foreplan.presets import preset
from foreplan.run.settings import read_config
from foreplan.worlds.composed import Parts, compose
from foreplan.worlds.value import Value, ValueNetwork

SPEC, DISCOUNT = Spec(obs_shape=(1,), action_dim=1), 0.9


class Slope(Model):
    """A point that runs away, and can be held only where it is within 1 of the middle; beyond 2 it is lost."""

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        after = 1.5 * state + 0.5 * action
        return after, jnp.ones(()), (jnp.abs(after[0]) < 2.0).astype(jnp.float32)


def seen() -> Replay:
    """Points everywhere; what was done there does not matter."""
    replay, rng, no = Replay.create(SPEC, 512), np.random.default_rng(0), np.zeros(1, np.bool_)
    for i in range(512):
        obs = rng.uniform(-2, 2, (1, 1)).astype(np.float32)
        action, episode = np.zeros((1, 1), np.float32), np.full(1, i, np.int32)
        replay = insert(replay, Step(obs, action, np.ones(1, np.float32), no, no, obs, episode))
    return replay


def test_it_is_worth_as_much_as_can_be_earned() -> None:
    """Where it can be held, 1 / (1 - discount); else what is earned on the way down, by the best action: from 1.4 over
    1.6 and 1.9, three rewards; from 1.8 one."""
    value = Value.create(SPEC, ValueNetwork(heads=2, widths=(64, 64)), jax.random.key(0), DISCOUNT)
    config = ValuePlanning(sweeps=20, states=256, epochs=40, batch_size=64)

    @jax.jit
    def fit(value: Value, replay: Replay) -> tuple[Value, dict]:
        return fit_planned(
            value, lambda value, key: compose(Slope(), Parts(value=value)), 1, replay, config, jax.random.key(1)
        )

    value, metrics = fit(value, seen())
    points = jnp.array([[0.0], [0.5], [-0.5], [1.4], [-1.4], [1.8], [-1.8]], jnp.float32)
    found = np.asarray(jax.vmap(value)(points))
    np.testing.assert_allclose(found[:3], 10.0, atol=0.7)
    np.testing.assert_allclose(found[3:5], 1 + 0.9 + 0.81, atol=1.0)
    np.testing.assert_allclose(found[5:], 1.0, atol=0.7)
    assert float(metrics["value_error"]) < 0.1


@pytest.mark.parametrize("agent", [SMALL_PETS, PLAIN_MPC], ids=["pets", "mbmpc"])
def test_a_planner_sees_the_value_beyond_its_horizon(agent) -> None:  # type: ignore[no-untyped-def]
    """Every step is discounted, and the value found at the end; without a value, neither."""
    spec, state, action, key = Spec(obs_shape=(3,), action_dim=2), jnp.zeros(3), jnp.zeros(2), jax.random.key(2)
    plain, valued = agent.init(spec, jax.random.key(0)), replace(agent, value="td", discount=0.5)
    learner = valued.init(spec, jax.random.key(0))
    learner = replace(learner, value=replace(learner.value, centre=jnp.float32(7.0)))
    without, beyond = (
        jax.tree.map(lambda leaf: leaf[0], members) for members in (agent.members(plain), valued.members(learner))
    )
    assert (float(without.value(state, key)), float(beyond.value(state, key))) == (0.0, 7.0)
    discounts = [float(model.step(state, action, key)[2]) for model in (without, beyond)]
    assert discounts[1] == pytest.approx(0.5 * discounts[0])
    assert discounts[0] > 0.0


def test_a_discount_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="accepted: numbers from 0 to below 1"):
        replace(SMALL_PETS, discount=1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_size_valued_is_what_the_results_were_made_with(seed: int) -> None:
    run = Path(__file__).parents[2] / "results" / "pets" / f"inverted-pendulum-s{seed}"
    assert read_config(run)[0] == preset("pets", "valued")
