"""`check --data`: a user's functions against what was recorded (PITFALLS 6, 7)."""

import json
from dataclasses import replace

import numpy as np
import pytest

from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.data import npz
from foreplan.data.dataset import About, Dataset, demonstration
from foreplan.run.agreement import compare


def walked() -> Dataset:
    """Two episodes of `toys.Walk`, whose reward is -(position before)^2, and which ends beyond 3."""
    begin = np.array([0.5, 1.0, 2.5, 0.25, 2.0], np.float32)
    after = np.array([1.0, 2.5, 3.5, 2.0, -3.25], np.float32)
    flat = np.zeros(5, np.float32)
    return demonstration(
        About("toys:walk", action_repeat=2),
        obs=np.stack([begin, flat], axis=1),
        action=flat[:, None],
        reward=-(begin**2),
        terminated=np.array([False, False, True, False, True]),
        truncated=np.zeros(5, np.bool_),
        next_obs=np.stack([after, flat], axis=1),
        episode=np.array([3, 3, 3, 7, 7], np.int32),
    )


@pytest.fixture
def walks(tmp_path) -> str:
    return str(npz.save(tmp_path / "walks.npz", walked()))


def test_right_functions_agree(walks) -> None:
    findings, told = compare("toys:walk", walks, {"reward": "ends:squared", "terminated": "ends:beyond"})
    assert all(finding.ok for finding in findings)
    assert (told["data"], told["episodes"]) == (walks, 2)
    assert told["reward"] == {"transitions": 5, "wrong": 0, "largest": 0.0, "first": []}
    ends = {"transitions": 5, "wrong": 0, "terminal": 2, "missed": 0, "invented": 0, "first": []}
    assert told["terminated"] == ends


def test_wrong_ones_are_told_how_much_and_where(walks) -> None:
    """`slow` says that an episode ends below 3, the reward forgets its sign."""
    (reward, ends), told = compare("toys:walk", walks, {"reward": "ends:unsigned", "terminated": "ends:slow"})
    assert not reward.ok
    assert told["reward"]["wrong"] == 5
    assert told["reward"]["largest"] == 2 * 2.5**2
    assert told["reward"]["first"][3] == {"episode": 7, "step": 0, "said": 0.0625, "recorded": -0.0625}
    assert "12.5 apart at most; episode 3, step 0: 0.25 for -0.25; " in reward.detail
    assert {name: told["terminated"][name] for name in ("wrong", "terminal", "missed", "invented")} == {
        "wrong": 4, "terminal": 2, "missed": 1, "invented": 3
    }  # fmt: skip
    places = [(row["episode"], row["step"], row["said"]) for row in told["terminated"]["first"]]
    assert places == [(3, 0, 1.0), (3, 1, 1.0), (3, 2, 0.0), (7, 0, 1.0)]
    assert "wrong about 4 of 5 transitions" in ends.detail
    assert "2 of them terminal: 1 ends missed, 3 invented; episode 3, step 0" in ends.detail


def test_what_is_rounded_agrees_and_what_is_no_number_does_not(walks) -> None:
    for name, wrong in [("ends:rounded", 0), ("ends:undefined", 5)]:
        (found,), told = compare("toys:walk", walks, {"reward": name})
        assert told["reward"]["wrong"] == wrong
        json.dumps(told, allow_nan=False)
    assert told["reward"]["first"][0]["said"] is None
    assert "episode 3, step 0: what is not finite for -0.25" in found.detail


def test_the_command_says_it_in_its_last_line_and_by_its_exit_code(walks, capsys) -> None:
    said = ["check", "toys:walk", "--data", walks, "--json"]
    assert main([*said, "--reward", "ends:squared"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["recorded"]["reward"]["wrong"] == 0
    assert main([*said, "--reward", "ends:squared", "--terminated", "ends:slow"]) == 1
    lines = capsys.readouterr().out.splitlines()
    answer = json.loads(lines[-1])
    assert (answer["ok"], answer["recorded"]["terminated"]["missed"]) == (False, 1)
    assert [line.split()[0] for line in lines if " agrees " in line] == ["ok", "FAIL"]
    assert "not what toys:walk says: terminated" in lines
    assert not any("breaks its contract" in line for line in lines)


def test_bad_input_is_one_line(walks, tmp_path, capsys) -> None:
    unpaid = npz.save(tmp_path / "unpaid.npz", replace(walked(), about=replace(walked().about, rewards=False)))
    none = npz.save(tmp_path / "none.npz", walked().take(0))
    for data, functions, complaint in [
        (str(unpaid), {"reward": "ends:squared"}, "has no rewards to compare with"),
        (str(none), {"reward": "ends:squared"}, "is empty"),
        (walks, {"terminated": "ends:squared"}, r"gives \(\) float32; accepted: one bool"),
        (walks, {"terminated": "ends:in_numpy"}, "is no function of"),
        (str(tmp_path / "nowhere.npz"), {"reward": "ends:squared"}, "cannot be read"),
    ]:
        with pytest.raises(UsageError, match=complaint) as refused:
            compare("toys:walk", data, functions)
        assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="of toys:walk has observations of size 2; jax/pendulum has 3"):
        compare("jax/pendulum", walks, {"reward": "ends:squared"})
    assert main(["check", "toys:walk", "--data", walks]) == 2
    assert "data is given without --reward or --terminated" in capsys.readouterr().err
