"""The environment stepped from many states at once is the environment."""

from contextlib import closing

import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.envs import names
from foreplan.sims import names as sims
from foreplan.sims import truth
from foreplan.sims.mujoco import MujocoSimulator

ENVS = ["jax/pendulum", "dmc/cartpole-swingup", "gym/InvertedPendulum-v5"]


@pytest.mark.parametrize("name", ENVS)
def test_what_becomes_of_actions_is_what_comes(name: str) -> None:
    """From where the second of two environments stands; the third row does something else. Ends included."""
    with closing(names.make(name, num_envs=2)) as plant, closing(truth.make(plant)) as true:
        random = np.random.default_rng(0)
        now = plant.reset(3)
        for _ in range(3):
            plant.send(random.uniform(-0.1, 0.1, (2, plant.spec.action_dim)).astype(np.float32))
            now = plant.recv()
        states, obs = true.at(1, 3), np.repeat(np.asarray(now.obs)[1:], 3, axis=0)
        for _ in range(25):
            actions = random.uniform(-1, 1, (3, plant.spec.action_dim)).astype(np.float32)
            actions[1] = actions[0]
            states, obs, reward, going_on = true.step(states, actions, obs)
            plant.send(actions[:2])
            after = plant.recv()
            np.testing.assert_allclose(obs[0], after.obs[1], atol=2e-5)
            np.testing.assert_allclose(reward[0], after.reward[1], rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(obs[0], obs[1])
            assert np.abs(obs[0] - obs[2]).max() > 1e-4
            assert (going_on[0] == 0.0) == bool(after.terminated[1])
            if (after.terminated | after.truncated).any():
                break


def test_what_cannot_be_rolled_back_is_refused() -> None:
    with closing(names.make("envs.factories:Noisy")) as plant, pytest.raises(UsageError, match="--inexact"):
        truth.make(plant)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dmc/cartpole-swingup", ("qpos", "qvel", "xmat")),
        ("gym/HalfCheetah-v5", ("qpos", "qvel")),
        ("gym/Hopper-v5", None),
    ],
)
def test_observations_are_gathered_where_they_are_mujocos_numbers(name: str, fields: tuple[str, ...] | None) -> None:
    """Hopper's speeds are clipped, though not in these states."""
    simulator = sims.make(name)
    assert isinstance(simulator, MujocoSimulator)
    rows = simulator.many(simulator.snapshot(), 4)
    for seed in range(5):
        actions = np.random.default_rng(seed).uniform(-1, 1, (4, simulator.env.spec.action_dim)).astype(np.float32)
        rows = simulator.step(rows, actions)[0]
    np.testing.assert_array_equal(simulator.observe(rows), simulator._look(rows))
    found = simulator._gathered
    assert (found.fields if found else None) == fields
