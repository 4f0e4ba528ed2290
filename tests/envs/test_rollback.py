"""Every environment whose state is said to be captured goes back bit for bit: in the same instance, in another one, and
in another process, past the beginning of the next episode (pitfalls 41 and 45)."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from dm_control import suite

from foreplan.envs.contract import equal, stored
from foreplan.envs.names import build, make

DMC = [f"dmc/{domain}-{task}" for domain, task in suite.ALL_TASKS]
MUJOCO = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum"]
MUJOCO += ["InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d"]
GYM = [f"gym/{name}-v5" for name in MUJOCO] + ["gym/Pendulum-v1", "gym/MountainCarContinuous-v0"]
BEFORE, AFTER = 7, 4


def actions(env) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (BEFORE + 2 * AFTER, env.spec.action_dim)).astype(np.float32)


def go_on(env) -> list:
    """Some steps, the next episode's first observation, some steps of that, and the whole state in the end."""
    future = actions(env)[BEFORE:]
    said = [env.step(action) for action in future[:AFTER]]
    said.append(env.reset())
    return [*said, *(env.step(action) for action in future[AFTER:]), env.snapshot()]


def go_on_elsewhere(name: str, saved: dict) -> list:
    env = build(name)
    env.restore(saved)
    return go_on(env)


def alike(a, b) -> bool:
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    return equal(a, b)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", DMC + GYM)
def test_goes_back_bit_for_bit(name: str, elsewhere: ProcessPoolExecutor) -> None:
    env, other = build(name), build(name)
    env.reset(3)
    other.reset(4)
    assert env.exactness == "bitwise"
    for action in actions(env)[:BEFORE]:
        env.step(action)
    saved = stored(env.snapshot())
    away = elsewhere.submit(go_on_elsewhere, name, saved)
    truth = go_on(env)
    assert not equal(saved, truth[-1])  # something did change
    env.restore(saved)
    assert alike(truth, go_on(env))
    other.step(actions(other)[0])
    other.restore(saved)
    assert alike(truth, go_on(other))
    assert alike(truth, away.result())
    env.close()
    other.close()


@pytest.mark.parametrize("name", ["dmc/pendulum-swingup", "gym/Hopper-v5", "gym/Pendulum-v1", "jax/cartpole-swingup"])
def test_a_vector_goes_back_across_the_end_of_an_episode(name: str) -> None:
    env, other = make(name, num_envs=3), make(name, num_envs=3)
    rng = np.random.default_rng(1)
    here = env.reset(0)

    def act(env, here):
        env.send(rng.uniform(-1, 1, (3, env.spec.action_dim)).astype(np.float32))
        return env.recv()

    after = act(env, here)
    while not (after.terminated | after.truncated).any():
        after = act(env, env.restart(after))
    saved = stored(env.snapshot())  # at the end itself, before the restart
    futures = []
    for each in (env, other, env):
        each.restore(saved)
        rng = np.random.default_rng(2)
        here, said = each.restart(after), []
        assert (here.first == (after.terminated | after.truncated)).all()
        for _ in range(5):
            said.append([here.obs, here.first])
            here = each.restart(act(each, here))
        futures.append(said)
    assert alike(futures[0], futures[1])
    assert alike(futures[0], futures[2])


def test_a_replayed_environment_goes_back() -> None:
    env, other = build("envs.factories:Noisy"), build("envs.factories:Noisy")
    assert env.exactness == "replay"
    env.reset(5)
    env.reset()
    env.step(np.float32([0.3, 0.0]))
    saved = stored(env.snapshot())
    truth = [env.step(np.float32([0.7, 0.0])), env.reset()]
    other.restore(saved)
    assert alike(truth, [other.step(np.float32([0.7, 0.0])), other.reset()])


def test_a_snapshot_of_another_model_is_refused() -> None:
    env, other = build("dmc/cartpole-swingup"), build("dmc/cheetah-run")
    env.reset(0)
    saved = env.snapshot()
    with pytest.raises(ValueError, match=r"numbers of physics \(MuJoCo .*\), the model has"):
        other.restore(saved)


def test_a_snapshot_of_another_mujoco_warns() -> None:
    env = build("gym/InvertedPendulum-v5")
    env.reset(0)
    saved = stored(env.snapshot())
    saved["state"]["physics"]["mujoco"] = "3.0.0"
    with pytest.warns(UserWarning, match=r"from MuJoCo 3\.0\.0, this is .*may differ in the last bits"):
        env.restore(saved)
