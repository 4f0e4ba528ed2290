"""A user's own Gymnasium vector: in every autoreset mode the same transitions come out (pitfall 10)."""

import numpy as np
import pytest

from foreplan.core.errors import EnvError, UsageError
from foreplan.envs.names import make

MODES = ["next_step", "same_step", "disabled"]


@pytest.mark.parametrize("mode", MODES)
def test_episodes_of_three_steps_give_three_transitions(mode: str) -> None:
    env = make(f"envs.factories:{mode}", 2)
    here, seen = env.reset(0), []
    for _ in range(9):
        env.send(np.zeros((2, 2), np.float32))
        after = env.recv()
        seen.append((*here.obs[1], *after.obs[1], float(after.reward[1]), bool(after.terminated[1])))
        here = env.restart(after)
        assert here.first.tolist() == after.terminated.tolist()
    expected = [[(e, 0, e, 1, 1, False), (e, 1, e, 2, 2, False), (e, 2, e, 3, 3, True)] for e in range(3)]
    assert seen == [transition for episode in expected for transition in episode]
    assert sum(len(each.actions) for each in env._env.envs) == 18  # no step was spent on a reset
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_goes_back_by_replay(mode: str) -> None:
    env, other = (make(f"envs.factories:{mode}") for _ in range(2))
    here = env.reset(0)
    for _ in range(4):
        env.send(np.zeros((2, 2), np.float32))
        here = env.restart(env.recv())
    saved = env.snapshot()
    other.restore(saved)
    for each in (env, other):
        each.send(np.ones((2, 2), np.float32))
    mine, theirs = env.recv(), other.recv()
    assert mine.obs.tolist() == theirs.obs.tolist() == [[1, 2], [1, 2]]
    assert env.exactness == "replay"
    assert here.obs.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", ["envs.factories:numbered", "envs.factories:Numbered"])
def test_discrete_actions_are_one_hot_vectors_of_their_numbers(name: str) -> None:
    env = make(name, 2)
    assert (env.spec.action_dim, env.spec.discrete) == (3, True)
    env.reset(0)
    env.send(np.eye(3, dtype=np.float32)[[2, 0]])
    env.recv()
    hosts = env._env.envs if hasattr(env, "_env") else [host.adapter.env for host in env.parts[0].envs]
    assert [host.actions[-1] for host in hosts] == [7, 5]  # the first action's number is 5
    env.close()


def test_the_final_observation_of_a_dict_space_is_found() -> None:
    env = make("envs.factories:same_step_parts")
    env.reset(0)
    for _ in range(3):
        env.send(np.zeros((2, 2), np.float32))
        after = env.recv()
    assert after.obs[:, 3].tolist() == [3, 3]  # ant/1 counts the steps
    assert env.restart(after).obs[:, 3].tolist() == [0, 0]


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'Sometimes'; accepted: NEXT_STEP, SAME_STEP, DISABLED"):
        make("envs.factories:unknown_mode")


def test_a_vector_that_resets_everything_is_found_out() -> None:
    env = make("envs.factories:mask_blind")
    env.reset(0)
    for _ in range(3):
        env.send(np.zeros((2, 2), np.float32))
        after = env.recv()
    with pytest.raises(EnvError, match=r"environment 1.*reset_mask"):
        env.restart(after)


def test_numbers_that_cannot_hold_are_refused() -> None:
    with pytest.raises(UsageError, match="a vector of 2 environments already, not of 3"):
        make("envs.factories:disabled", 3)
    with pytest.raises(UsageError, match="action_repeat is 4"):
        make("envs.factories:disabled", action_repeat=4)
    with pytest.raises(UsageError, match="a vector environment already"):
        make("envs.factories:disabled", asynchronous=True)
