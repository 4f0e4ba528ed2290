"""The planner's rewards are the environment's own, on real transitions (issue 3: to 1e-6)."""

import numpy as np
import pytest

from foreplan.envs import names as envs
from foreplan.sims import names as sims
from foreplan.sims.rewards import suite

EPISODES, DECISIONS = 3, 40


@pytest.mark.parametrize("task", suite.REWARDS)
def test_dm_control(task: str) -> None:
    same_as_environment(f"dmc/{task}")


@pytest.mark.parametrize("task", ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup"])
def test_gymnasium(task: str) -> None:
    same_as_environment(f"gym/{task}-v5")


@pytest.mark.parametrize(
    "task", ["InvertedPendulum", "InvertedDoublePendulum", "Pusher", "Reacher", "Swimmer", "Walker2d"]
)
def test_gymnasium_too(task: str) -> None:
    same_as_environment(f"gym/{task}-v5")


def same_as_environment(name: str) -> None:
    """Act at random, sometimes at full strength; ask the simulator what the same actions return."""
    plant, simulator, rng = envs.build(name), sims.make(name, threads=1), np.random.default_rng(0)
    for episode in range(EPISODES):
        plant.reset(episode)
        for _ in range(rng.integers(0, 20)):
            plant.step(rng.uniform(-1, 1, plant.spec.action_dim).astype(np.float32))
        actions = rng.uniform(-1, 1, (DECISIONS, plant.spec.action_dim)).astype(np.float32)
        actions[DECISIONS // 2 :] = np.sign(actions[DECISIONS // 2 :])
        saved = plant.snapshot()
        foretold = simulator.rollout(saved, np.stack([actions, -actions]))
        for t, action in enumerate(actions):
            _, reward, terminated, truncated = plant.step(action)
            assert foretold.rewards[0, t] == pytest.approx(reward, abs=1e-6), f"decision {t}"
            assert foretold.discounts[0, t] == 1.0 - terminated
            if terminated or truncated:
                break
