"""JAX-native environments against what they are modelled on, and as models to plan in."""

from collections.abc import Callable

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from dm_control import suite

from foreplan.core.model import Model, returns
from foreplan.envs.jax_native import draw, pendulum_reward, swingup_reward, tip_reward
from foreplan.envs.names import JAX, jax_env, make

KEY = jax.random.key(0)


def test_pendulum_is_gymnasiums() -> None:
    model, theirs = jax_env("jax/pendulum"), gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    state = jnp.array(theirs.state, jnp.float32)
    for action in np.random.default_rng(0).uniform(-1, 1, 50).astype(np.float32):
        obs, reward, *_ = theirs.step(np.float32([2 * action]))
        state, mine, discount = model.step(state, jnp.array([action]), KEY)
        np.testing.assert_allclose(model.observe(state), obs, atol=2e-3)
        np.testing.assert_allclose(mine, reward, atol=2e-2)
        assert discount == 1


@pytest.mark.parametrize(
    ("name", "reward"),
    [("pendulum", pendulum_reward), ("cartpole-swingup", swingup_reward), ("cartpole-pets", tip_reward)],
)
def test_rewards_are_also_those_of_what_is_observed(name: str, reward: Callable) -> None:
    model = jax_env(f"jax/{name}")
    state = model.reset(KEY)
    for action in np.random.default_rng(0).uniform(-1, 1, (100, 1)).astype(np.float32):
        after, earned, _ = model.step(state, jnp.asarray(action), KEY)
        said = reward(model.observe(state), jnp.asarray(action), model.observe(after))
        np.testing.assert_allclose(said, earned, rtol=1e-5, atol=1e-5)
        state = after


def test_cartpole_is_dm_controls() -> None:
    """From the same state, a tenth of a second of MuJoCo differs by about its joint damping and its integrator."""
    model, theirs = jax_env("jax/cartpole-swingup"), suite.load("cartpole", "swingup", task_kwargs={"random": 0})
    rng = np.random.default_rng(0)
    for _ in range(5):
        theirs.reset()
        start = rng.uniform([-1, -3, -1, -3], [1, 3, 1, 3])
        theirs.physics.data.qpos[:], theirs.physics.data.qvel[:] = start[:2], start[2:]
        mujoco.mj_forward(theirs.physics.model.ptr, theirs.physics.data.ptr)
        state, action = jnp.array(start, jnp.float32), rng.uniform(-1, 1, 1)
        for _ in range(10):
            state, reward, _ = model.step(state, jnp.array(action, jnp.float32), KEY)
            timestep = theirs.step(action)
        truth = np.concatenate([theirs.physics.data.qpos, theirs.physics.data.qvel])
        np.testing.assert_allclose(state, truth, atol=0.02 * max(1.0, np.abs(truth).max()))
        np.testing.assert_allclose(reward, timestep.reward, atol=0.02)


@pytest.mark.parametrize("name", JAX)
def test_what_the_model_predicts_happens(name: str) -> None:
    """Planning in the environment's own model: the return of a sequence of actions is the sum of its rewards."""
    env = make(name)
    env.reset(0)
    assert isinstance(env.model, Model)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 1)).astype(np.float32)
    start = jax.tree.map(lambda leaf: leaf[0], env._running.state)
    predicted = jax.jit(returns)(env.model, start, jnp.array(actions), KEY)
    total = 0.0
    for action in actions:
        env.send(action[None])
        total += float(env.recv().reward[0])
    np.testing.assert_allclose(predicted, total, rtol=1e-5)


def test_action_repeat_is_the_action_repeated() -> None:
    once, thrice = make("jax/pendulum"), make("jax/pendulum", action_repeat=3)
    once.reset(0)
    thrice.reset(0)
    assert thrice.spec.episode_length == 67
    for decision in range(67):
        action, rewards = np.float32([[np.sin(decision)]]), []
        thrice.send(action)
        after = thrice.recv()
        for _ in range(3 if decision < 66 else 2):  # the last one is cut short by the end: 66 * 3 + 2 = 200
            once.send(action)
            last = once.recv()
            rewards.append(float(last.reward[0]))
        np.testing.assert_allclose(after.reward[0], sum(rewards), rtol=1e-4)
        np.testing.assert_allclose(after.obs, last.obs, atol=1e-4)
    assert after.truncated[0]
    assert last.truncated[0]


def test_each_program_is_compiled_once(compiled) -> None:
    env = make("jax/pendulum", 2)
    compiled()
    for seed in (0, 1):
        env.reset(seed)
        for _ in range(201):
            env.send(np.zeros((2, 1), np.float32))
            env.restart(env.recv())
        env.restore(env.snapshot())
        env.send(np.zeros((2, 1), np.float32))
        env.recv()
    ours = [name for name in compiled() if any(part in name for part in ("_begin_all", "_advance", "_again"))]
    assert sorted(ours) == ["jit(_advance)", "jit(_again)", "jit(_begin_all)"]


@pytest.mark.parametrize("name", JAX)
def test_it_can_be_drawn_anywhere(name: str) -> None:
    env = make(name, 2)
    env.reset(0)
    picture = env.render(1)
    assert (picture.shape, picture.dtype) == ((240, 240, 3), np.uint8)
    assert 0.001 < (picture != 255).any(axis=2).mean() < 0.2


def test_a_drawing_is_the_same_at_any_height() -> None:
    """Lines cover their share of the picture, whatever its size: length times width, and the round ends."""
    for size in (120, 480):
        picture = draw([((0.0, 0.0), (1.2, 0.0), 0.3, (0, 0, 0))], size)
        covered = (1.0 - picture.mean() / 255) * 4.8**2
        assert covered == pytest.approx(1.2 * 0.6 + np.pi * 0.3**2, rel=0.03)
    env = make("jax/pendulum", height=96)
    env.reset(0)
    assert env.render().shape == (96, 96, 3)
