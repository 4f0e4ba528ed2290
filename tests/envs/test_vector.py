"""The vector environment: seeds, order, workers, episode ends, and how it reports a fault (pitfalls 1, 10, 49)."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from foreplan.core.errors import EnvError
from foreplan.core.types import VectorEnv
from foreplan.envs.names import make


def run(env: VectorEnv, steps: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    actions = rng.uniform(-1, 1, (steps, 4, env.spec.action_dim)).astype(np.float32)
    here = env.reset(seed)
    said = [here.obs]
    for action in actions:
        env.send(action[: env.spec.num_envs])
        after = env.recv()
        here = env.restart(after)
        said += [after.obs, after.reward, after.terminated, here.obs, here.first]
    env.close()
    return said


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["gym/InvertedPendulum-v5", "envs.factories:Noisy", "jax/pendulum"])
def test_a_seed_decides_everything(name: str) -> None:
    first = run(make(name, 3), 30)
    assert same(first, run(make(name, 3), 30))
    assert not same(first, run(make(name, 3), 30, seed=1))
    assert len({row.tobytes() for row in first[0]}) == 3  # each environment has its own stream


@pytest.mark.parametrize("name", ["gym/InvertedPendulum-v5", "envs.factories:Noisy", "jax/pendulum"])
def test_an_environments_stream_does_not_depend_on_how_many_there_are(name: str) -> None:
    two, four = run(make(name, 2), 30), run(make(name, 4), 30)
    assert same(two, [leaf[:2] for leaf in four])


def test_episodes_differ_and_rng_continues() -> None:
    env = make("gym/Pendulum-v1")
    firsts = set()
    after = env.reset(0)
    for _ in range(3):
        firsts.add(after.obs.tobytes())
        for _ in range(200):
            env.send(np.zeros((1, 1), np.float32))
            after = env.recv()
        after = env.restart(after)
        assert after.first.all()
    assert len(firsts) == 3


@pytest.mark.parametrize("name", ["gym/InvertedPendulum-v5", "envs.factories:Noisy"])
def test_workers_are_bitwise_the_synchronous_environment(name: str) -> None:
    assert same(run(make(name, 3), 40), run(make(name, 3, asynchronous=True), 40))


def test_workers_snapshot_and_render() -> None:
    env, other = make("gym/InvertedPendulum-v5", 2, asynchronous=True), make("gym/InvertedPendulum-v5", 2)
    env.reset(0)
    env.send(np.ones((2, 1), np.float32))
    env.recv()
    other.restore(env.snapshot())
    for each in (env, other):
        each.send(np.zeros((2, 1), np.float32))
    assert np.array_equal(env.recv().obs, other.recv().obs)
    assert (env.exactness, env.spec) == ("bitwise", other.spec)
    env.close()
    other.close()


def test_a_worker_does_not_import_jax() -> None:
    env = make("envs.factories:SaysJax", 2, asynchronous=True)
    obs = env.reset(0).obs
    env.close()
    assert obs[:, 0].tolist() == [0.0, 0.0]
    assert obs[0, 1] != obs[1, 1]  # two processes


def test_a_worker_leaves_interrupts_to_its_parent() -> None:
    env = make("envs.factories:SaysJax", asynchronous=True)
    pid = int(env.reset(0).obs[0, 1])
    os.kill(pid, signal.SIGINT)
    env.send(np.zeros((1, 2), np.float32))
    assert env.recv().obs[0, 1] == pid
    env.close()


def test_auto_measures() -> None:
    slow, quick = (make(f"envs.factories:{name}", 2, asynchronous="auto") for name in ("Slow", "Countdown"))
    assert (len(slow.parts), len(quick.parts)) == (2, 1)
    slow.close()
    quick.close()


def test_no_transition_is_invented() -> None:
    """Episodes of three steps: the successors are exactly 1, 2, 3, 1, 2, 3, and only a restart says `first`."""
    env = make("envs.factories:Countdown", 2)
    here, seen = env.reset(0), []
    for _ in range(9):
        env.send(np.zeros((2, 2), np.float32))
        after = env.recv()
        assert not after.first.any()
        seen.append((here.obs[0, 1], after.obs[0, 1], float(after.reward[0]), bool(after.terminated[0])))
        here = env.restart(after)
        assert here.first.tolist() == after.terminated.tolist()
        assert not (here.terminated | here.truncated).any()
    assert seen == [(0, 1, 1, False), (1, 2, 2, False), (2, 3, 3, True)] * 3


def test_time_limits_truncate_and_do_not_terminate() -> None:
    env = make("dmc/cartpole-balance", action_repeat=10)
    env.reset(0)
    assert (env.spec.episode_length, env.spec.terminates) == (100, False)
    for step in range(1, 101):
        env.send(np.zeros((1, 1), np.float32))
        after = env.recv()
        assert bool(after.truncated[0]) == (step == 100)
        assert not after.terminated[0]


def test_action_repeat_sums_rewards_and_stops_at_the_end() -> None:
    env = make("envs.factories:Countdown", action_repeat=2)
    env.reset(0)
    rewards = []
    for _ in range(2):
        env.send(np.zeros((1, 2), np.float32))
        after = env.recv()
        rewards.append(float(after.reward[0]))
    assert rewards == [1 + 2, 3]
    assert after.terminated[0]


def test_actions_are_rescaled_to_the_environments_bounds_and_clipped() -> None:
    env = make("envs.factories:Countdown")
    env.reset(0)
    for action in ([-1, -1], [0, 0], [5, 1]):
        env.send(np.float32([action]))
        env.recv()
    taken = env.parts[0].envs[0].adapter.env.actions
    assert np.array_equal(taken, np.float32([[-2, 0], [0, 5], [2, 10]]))
    assert all(action.dtype == np.float32 for action in taken)


def test_dict_and_tuple_observations_are_flattened_in_order() -> None:
    env = make("envs.factories:Parts")
    assert env.spec.obs_shape == (8,)
    env.reset(0)
    env.send(np.zeros((1, 2), np.float32))
    assert env.recv().obs.tolist() == [[0, 1, 0, 1, 0.5, 0.5, 0.5, 0.5]]  # ant (one-hot, box), then zoo


def test_dm_env_observations_are_flattened_and_its_last_step_truncates() -> None:
    env = make("envs.factories:DmCountdown")
    assert env.reset(0).obs.tolist() == [[0, 1, 2]]
    for _ in range(3):
        env.send(np.ones((1, 1), np.float32))
        after = env.recv()
    assert (after.reward[0], after.truncated[0], after.terminated[0]) == (4.0, True, False)


def test_what_it_gave_is_not_overwritten_by_later_steps() -> None:
    env = make("gym/Pendulum-v1", 2)
    first = env.reset(0)
    kept = first.obs.copy()
    env.send(np.ones((2, 1), np.float32))
    second = env.recv()
    assert np.array_equal(first.obs, kept)
    for leaf in dataclasses.astuple(second):
        assert not any(np.shares_memory(leaf, other) for other in dataclasses.astuple(first))


FAULTS = {
    "Raises": (2, "step", "ZeroDivisionError: the gripper is open"),
    "Nan": (2, r"obs obs\[1\]", "nan is not finite"),
    "NanReward": (2, "step", "reward nan is not finite"),
    "WrongShape": (1, "step", r"shape \(3,\), its space \(2,\)"),
    "Outside": (2, r"obs zoo\[2\]", r"1.5 is outside its declared bounds \[-1, 1\]"),
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_name_index_step_and_field(fault: str, asynchronous: bool) -> None:
    step, field, detail = FAULTS[fault]
    name = f"envs.factories:{fault}"
    env = make(name, 2, asynchronous=asynchronous)
    env.reset(0)
    for _ in range(step - 1):
        env.send(np.zeros((2, 2), np.float32))
        env.recv()
    env.send(np.zeros((2, 2), np.float32))
    with pytest.raises(EnvError, match=f"{name}: environment 0, step {step} of its episode, {field}: .*{detail}"):
        env.recv()
    env.close()


def test_a_worker_that_dies_is_reported() -> None:
    env = make("envs.factories:Dies", 2, asynchronous=True)
    env.reset(0)
    env.send(np.zeros((2, 2), np.float32))
    with pytest.raises(EnvError, match="the worker process ended with exit code 7"):
        env.recv()
    with pytest.raises(EnvError, match="exit code 7"):  # and again by whoever asks it for anything
        env.snapshot()
    env.close()


@pytest.mark.parametrize("name", ["envs.factories:Countdown", "envs.factories:disabled"])
def test_misuse_is_refused(name: str) -> None:
    env = make(name, 2)
    good = np.zeros((2, 2), np.float32)
    with pytest.raises(RuntimeError, match="must follow"):
        env.send(good)  # before reset
    after = env.reset(0)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(2, 2\)"):
        env.send(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="environment 1 are NaN"):
        env.send(np.float32([[0, 0], [np.nan, 0]]))
    for _ in range(3):
        env.send(good)
        with pytest.raises(RuntimeError, match="must follow"):
            env.send(good)
        after = env.recv()
    with pytest.raises(RuntimeError, match="restart"):
        env.send(good)  # the episodes have ended
    env.restart(after)
    env.send(good)
    env.close()
