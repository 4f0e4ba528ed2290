"""MPC as an agent: in simulators, in JAX-native plants, and in what another agent has learned."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import TD_MPC2, timestep

from foreplan.agents.mpc import MPC, InAgent
from foreplan.core.errors import UsageError
from foreplan.core.model import Model, Repeated, returns
from foreplan.core.types import Agent, LooksAhead, Spec
from foreplan.envs import names
from foreplan.envs.jax_native import Pendulum
from foreplan.planners.icem import ICEM
from foreplan.planners.limits import Limited
from foreplan.run.evaluate import play

SHORT = ICEM(horizon=5, num_samples=16, num_elites=4, iterations=2)
KEY = jax.random.key(0)


@pytest.fixture(params=["dmc/cartpole-swingup", "jax/pendulum"])
def plant(request: pytest.FixtureRequest) -> Any:
    return names.make(request.param, num_envs=2)


def test_it_holds_a_pole_up_in_every_environment() -> None:
    """For two seconds, each from its own state; left alone the poles fall."""
    plant = names.make("dmc/cartpole-balance", num_envs=2, action_repeat=4)
    agent = MPC.of(plant, ICEM(horizon=20, num_samples=24, iterations=2, num_elites=8), threads=1)
    assert isinstance(agent, Agent)
    rewards = [after.reward for (_, _, after), _ in zip(play(agent, (), plant), range(50), strict=False)]
    assert (np.sum(rewards, axis=0) > 0.9 * 4 * 50).all()


def test_it_never_touches_the_plant_and_repeats_itself(plant: Any) -> None:
    agent, first = MPC.of(plant, SHORT), plant.reset(0)
    before = plant.snapshot()
    acted = [agent.act((), first, agent.memory(plant.spec), KEY, False) for _ in range(2)]
    np.testing.assert_array_equal(acted[0][0], acted[1][0])
    assert np.abs(acted[0][0]).max() <= 1.0
    after = plant.snapshot()
    assert jax.tree.map(np.shape, before) == jax.tree.map(np.shape, after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)
    explored = agent.act((), first, agent.memory(plant.spec), KEY, True)[0]
    assert not np.array_equal(explored, acted[0][0])


def test_memory_is_fresh_where_an_episode_begins_and_only_there(plant: Any) -> None:
    """(PITFALLS 36)"""
    agent, first = MPC.of(plant, SHORT), plant.reset(0)
    fresh = agent.memory(plant.spec)
    used = agent.act((), first, fresh, jax.random.key(1), False)[1]
    flags = [(fresh, [True, True]), (used, [False, False]), (used, [True, False])]
    begun, gone_on, mixed = (
        agent.act((), replace(first, first=np.array(flag)), memory, KEY, False)[1] for memory, flag in flags
    )
    for a, b, both in zip(*map(jax.tree.leaves, (begun, gone_on, mixed)), strict=True):
        np.testing.assert_array_equal(both[0], a[0])
        np.testing.assert_array_equal(both[1], b[1])


def test_rate_limits_hold_from_one_decision_to_the_next() -> None:
    plant = names.make("jax/pendulum")
    agent = MPC.of(plant, Limited(SHORT, rate=0.1))
    actions = [action[0] for (_, action, _), _ in zip(play(agent, (), plant), range(30), strict=False)]
    steps = np.abs(np.diff(actions, axis=0, prepend=0.0))
    assert 0.05 < steps.max() < 0.1 + 1e-6


class Centred(Model):
    """Best is the action that leads to the origin at once."""

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        after = state + action
        return after, -jnp.sum(after**2), jnp.ones(())


class Knowing:
    """An agent that has learned `Centred`, and sees its state as it is."""

    def init(self, spec, key):  # type: ignore[no-untyped-def]
        return jnp.float32(1.0)

    def look_ahead(self, learner, obs, key):  # type: ignore[no-untyped-def]
        return Centred(), learner * obs


def test_it_plans_in_what_another_agent_has_learned() -> None:
    agent = MPC(ICEM(horizon=3, num_samples=128, iterations=8, decay=1.0, exponent=0.0), InAgent(Knowing()))
    spec, obs = Spec(obs_shape=(2,), action_dim=2, num_envs=2), np.array([[0.5, -0.2], [0.0, 0.7]])
    actions, _, notes = agent.act(agent.init(spec, KEY), timestep(obs, [True, True]), agent.memory(spec), KEY, False)
    np.testing.assert_allclose(actions, -obs, atol=0.1)
    assert notes["invalid_plans"] == 0


def test_td_mpc2_lends_its_model_to_any_planner() -> None:
    spec = Spec(obs_shape=(5,), action_dim=2)
    agent = MPC(SHORT, InAgent(TD_MPC2))
    assert isinstance(TD_MPC2, LooksAhead)
    learner = agent.init(spec, KEY)
    actions = agent.act(learner, timestep(np.ones((1, 5)), [True]), agent.memory(spec), KEY, False)[0]
    assert actions.shape == (1, 2)
    assert np.isfinite(actions).all()


def test_a_repeated_action_earns_the_sum() -> None:
    model, state, actions = Pendulum(), jnp.array([2.0, 0.5]), jnp.array([[0.3], [-0.8]])
    single = returns(model, state, jnp.repeat(actions, 3, axis=0), KEY)
    assert float(returns(Repeated(model, 3), state, actions, KEY)) == pytest.approx(float(single), rel=1e-6)


def test_what_cannot_be_planned_is_refused() -> None:
    plant = names.make("jax/pendulum")
    with pytest.raises(UsageError, match="horizon is 300 decisions, an episode has 200"):
        MPC.of(plant, ICEM(horizon=300)).memory(plant.spec)
    with pytest.raises(UsageError, match="inexact"):
        MPC.of(names.make("envs.factories:Noisy"), SHORT)
    with pytest.raises(UsageError, match="threads cannot be changed"):
        MPC.of(plant, SHORT, threads=1)
