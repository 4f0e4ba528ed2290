"""From names to environments, and how what is bad is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foreplan.core.errors import EnvError, UsageError, nearest
from foreplan.envs import names
from foreplan.envs.names import available, build, make

BAD = {
    "dmc/cartpole-swingp": r"unknown environment .*did you mean 'dmc/cartpole-swingup'\?",
    "gym/Hoper-v5": r"did you mean 'gym/Hopper-v5'\?",
    "gym/nowhere:Hopper-v5": "unknown environment",
    "jax/pendulm": r"did you mean 'jax/pendulum'\?",
    "cartpole-swingup": r"did you mean '(dmc|jax)/cartpole-swingup'\?.*package.module:factory",
    "nowhere.at.all:make": "module 'nowhere.at.all' cannot be imported",
    "envs.factories:Countdwn": r"did you mean 'Countdown'\?",
    "envs.factories:nothing": "gave a int; accepted: gymnasium.Env",
    "envs.factories:Unbounded": r"action\[1\] is bounded by \[-inf, inf\]; finite bounds",
    "envs.factories:ManyHands": r"has MultiDiscrete actions; accepted: continuous \(Box\) and Discrete ones",
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_in_one_line(name: str, asynchronous: bool) -> None:
    with pytest.raises(UsageError, match=BAD[name]) as caught:
        make(name, 2, asynchronous=asynchronous)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0; it must be a whole number of at least 1"),
        ({"action_repeat": -1}, "action_repeat is -1"),
        ({"action_repeat": True}, "action_repeat is True"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make("jax/pendulum", **options)


@pytest.mark.parametrize("name", ["dmc/cheetah-run", "gym/HalfCheetah-v5"])
def test_what_a_user_cannot_mend_is_not_said(name: str) -> None:
    program = f"from foreplan.envs.names import make; make({name!r}, 1).close()"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stderr == ""


def test_an_environment_that_cannot_be_built_says_why() -> None:
    with pytest.raises(EnvError, match="build: OSError: no robot here"):
        make("envs.factories:crashes")


def test_hyphens_underscores_and_case_do_not_matter() -> None:
    specs = {make(name).spec for name in ("dmc/ball_in_cup-catch", "dmc/ball-in-cup-catch", "dmc/Ball_in_cup_Catch")}
    assert len(specs) == 1


def test_dm_control_repeats_actions_twice_unless_told_otherwise() -> None:
    assert build("dmc/pendulum-swingup").spec.action_repeat == 2
    assert build("dmc/pendulum-swingup").spec.episode_length == 500
    once = build("dmc/pendulum-swingup", action_repeat=3)
    assert (once.spec.action_repeat, once.spec.episode_length) == (3, 334)


def test_an_object_of_ones_own_is_taken_as_it_is() -> None:
    env = make("envs.factories:Own", 2)
    before = env.reset(0).obs
    env.send(np.ones((2, 1), np.float32))
    assert np.array_equal(env.recv().obs, before + 1)
    with pytest.raises(UsageError, match="repeats actions 1 times itself, not 2"):
        make("envs.factories:Own", action_repeat=2)


def test_only_what_can_terminate_says_so() -> None:
    told = {name: build(name).spec.terminates for name in ("gym/Hopper-v5", "gym/HalfCheetah-v5", "dmc/lqr-lqr_2_1")}
    assert told == {"gym/Hopper-v5": True, "gym/HalfCheetah-v5": False, "dmc/lqr-lqr_2_1": True}
    assert not build("dmc/walker-walk").spec.terminates


def test_motors_without_a_range_get_the_suites_custom() -> None:
    env = build("dmc/lqr-lqr_6_2")
    assert env.rescale(np.float32([-1, 1])).tolist() == [-1, 1]
    assert env.spec.episode_length is None


def test_available_lists_what_can_be_acted_in() -> None:
    listed = available()
    assert {"dmc/cartpole-swingup", "gym/Hopper-v5", "gym/Pendulum-v1", *names.JAX} <= set(listed)
    assert "gym/CartPole-v1" in listed  # discrete
    assert "gym/Hopper-v4" not in listed  # not the newest
    assert len([name for name in listed if name.startswith("dmc/")]) == 51


def test_nearest() -> None:
    assert nearest("HOPPER", ["walker", "hopper"]) == "hopper"
    assert nearest("zzz", ["walker", "hopper"]) is None


def test_mujoco_leaves_no_log_where_the_user_stands_and_says_nothing_of_the_half_cheetah(tmp_path: Path) -> None:
    made = "from foreplan.envs.names import make; make('gym/HalfCheetah-v5').close()"
    done = subprocess.run([sys.executable, "-c", made], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])
