"""Simulators that others judge: the same physics as a plan in one call, seen decision by decision."""

from typing import Any

import numpy as np
import pytest

from foreplan.envs import names
from foreplan.sims import names as sims
from foreplan.sims.judged import Judged, follow
from foreplan.sims.stepping import SteppingSimulator


def rolled(name: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(simulator, snapshot, what is observed there, plans [8, 5, action])."""
    env = names.build(name)
    obs = env.reset(3)
    simulator: Any = SteppingSimulator(env, 0) if name.startswith("run.toys:") else sims.make(name)
    plans = np.random.default_rng(0).uniform(-1, 1, (8, 5, env.spec.action_dim)).astype(np.float32)
    return simulator, env.snapshot(), obs, plans


@pytest.mark.parametrize("name", ["dmc/cartpole-swingup", "gym/Hopper-v5", "run.toys:walk"])
def test_judged_by_nobody_else_a_plan_returns_what_it_did(name: str) -> None:
    simulator, snapshot, obs, plans = rolled(name)
    one, other = simulator.rollout(snapshot, plans), Judged(simulator).at(obs).rollout(snapshot, plans)
    np.testing.assert_allclose(other.returns, one.returns, rtol=1e-6)
    np.testing.assert_array_equal(other.discounts, one.discounts)


def test_each_judge_sees_what_the_environment_shows() -> None:
    """A reward that is an observation, an end that is a half, a value that is another observation."""
    simulator, snapshot, obs, plans = rolled("dmc/cartpole-swingup")
    judged = Judged(
        simulator,
        reward=lambda obs, action, after: after[:, 0] + 10.0 * action[:, 0] + 100.0 * obs[:, 1],
        continuation=lambda obs, action, after: np.full(len(obs), 0.5),
        value=lambda obs: obs[:, 2],
        discount=0.9,
    )
    found = judged.at(obs).rollout(snapshot, plans)
    env = simulator.env
    for i, plan in enumerate(plans):
        env.restore(snapshot)
        before, total, scale = obs, 0.0, 1.0
        for action in plan:
            after = env.step(action)[0]
            total += scale * (after[0] + 10.0 * action[0] + 100.0 * before[1])
            before, scale = after, 0.45 * scale
        assert found.returns[i] == pytest.approx(total + scale * before[2], rel=1e-4)


def test_a_value_alone_leaves_a_plan_in_one_call() -> None:
    simulator, snapshot, obs, plans = rolled("dmc/cartpole-swingup")
    stepped = Judged(simulator, value=lambda obs: obs[:, 1], discount=0.9).at(obs).rollout(snapshot, plans)
    simulator.value_by(lambda obs: obs[:, 1], 0.9)
    np.testing.assert_allclose(simulator.rollout(snapshot, plans).returns, stepped.returns, rtol=1e-5)


@pytest.mark.parametrize("name", ["dmc/cartpole-swingup", "run.toys:walk"])
def test_a_policy_is_followed_from_what_it_sees(name: str) -> None:
    simulator, snapshot, obs, _ = rolled(name)
    actions = follow(simulator, snapshot, np.repeat(obs[None], 2, axis=0), lambda obs, t: np.tanh(obs[:, :1]), 4)
    env = simulator.env
    env.restore(snapshot)
    for t in range(4):
        np.testing.assert_allclose(actions[:, t], np.tanh(obs[None, :1]).repeat(2, axis=0), atol=1e-5)
        obs = env.step(actions[0, t])[0]


def test_nothing_is_earned_after_an_end() -> None:
    """A walk that runs away ends beyond 3 (see tests/run/toys.py)."""
    simulator, snapshot, obs, _ = rolled("run.toys:walk")
    away = np.full((1, 25, 1), np.sign(obs[0] + 10 * obs[1]), np.float32)
    truth = simulator.rollout(snapshot, away)
    ended = int(np.argmin(truth.discounts[0]))
    assert 0 < ended < 24
    found = Judged(simulator, reward=lambda obs, action, after: np.ones(len(obs))).at(obs).rollout(snapshot, away)
    assert found.returns[0] == ended + 1
