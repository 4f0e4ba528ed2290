"""The planner's rewards are the environment's own, on real transitions (issue 3: to 1e-6)."""

import numpy as np
import pytest

from foreplan.envs import names as envs
from foreplan.sims import names as sims
from foreplan.sims.rewards import suite

EPISODES, STEPS = 4, 250  # environment steps: a thousand transitions a task, as far as episodes last


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
    plant, simulator, rng = envs.build(name, 1), sims.make(name, 1, threads=1), np.random.default_rng(0)
    for episode in range(EPISODES):
        plant.reset(episode)
        for _ in range(rng.integers(0, 20)):
            plant.step(rng.uniform(-1, 1, plant.spec.action_dim).astype(np.float32))
        actions = rng.uniform(-1, 1, (STEPS, plant.spec.action_dim)).astype(np.float32)
        actions[STEPS // 2 :] = np.sign(actions[STEPS // 2 :])
        saved = plant.snapshot()
        foretold = simulator.rollout(saved, actions[None])
        for t, action in enumerate(actions):
            _, reward, terminated, truncated = plant.step(action)
            assert abs(foretold.rewards[0, t] - reward) <= 1e-6, f"step {t}"
            assert foretold.discounts[0, t] == 1.0 - terminated
            if terminated or truncated:
                break
