"""A user's reward and termination against what the environment says, transition by transition (PITFALLS 6, 7)."""

import json
from typing import Any

import numpy as np
import pytest

from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.sims.agreement import agreement
from foreplan.sims.rewards import suite


def hopper_over(before: Any, action: Any, after: Any) -> Any:
    rest = np.concatenate([after.qpos[..., 2:], after.qvel], axis=-1)
    fine = (np.abs(rest) < 100).all(axis=-1) & (after.qpos[..., 1] > 0.7) & (np.abs(after.qpos[..., 2]) < 0.2)
    return ~fine


def hopper_misread(before: Any, action: Any, after: Any) -> Any:
    """The published slip: a parenthesis that closes too late, so that the angle is never looked at."""
    return ~((np.abs(after.qpos[..., 1:] < 100)).all(axis=-1) & (after.qpos[..., 1] > 0.7))


def test_a_right_function_agrees_on_every_transition() -> None:
    (found,) = agreement("gym/Hopper-v5", terminated=hopper_over, transitions=600)
    assert found.ok
    assert "600 transitions" in found.detail
    (found,) = agreement("dmc/walker-walk", reward=suite.REWARDS["walker-walk"], transitions=200)
    assert found.ok


def test_a_wrong_one_is_told_its_first_row() -> None:
    (found,) = agreement("gym/Hopper-v5", terminated=hopper_misread, transitions=600)
    assert not found.ok
    row = int(found.detail.split("row ")[1].split(":")[0])
    assert "it says 0, the environment 1" in found.detail
    (again,) = agreement("gym/Hopper-v5", terminated=hopper_misread, transitions=row)
    assert again.ok  # it was right until then


def test_another_tasks_function_is_found_out() -> None:
    """Walking is not running: they agree while the walker hardly moves, and that is not enough."""
    (found,) = agreement("dmc/walker-run", reward=suite.REWARDS["walker-walk"], transitions=200)
    assert not found.ok


def test_the_command_says_both(capsys: pytest.CaptureFixture[str]) -> None:
    said = ["check", "dmc/cartpole-balance", "--reward", "foreplan.sims.rewards.suite:cartpole", "--json"]
    assert main([*said, "--transitions", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "rollback: bitwise" in lines
    answer = json.loads(lines[-1])
    assert answer["verdict"] == "bitwise"
    assert answer["findings"][-1]["name"] == "reward agrees"


def test_functions_that_cannot_be_asked() -> None:
    for function, said in [
        (lambda before, action, after: after.qpos, r"reward gave shape \(1, 1, 2\)"),
        (lambda before, action: 0.0, "reward failed: TypeError"),
    ]:
        with pytest.raises(UsageError, match=said):
            agreement("dmc/cartpole-balance", reward=function, transitions=3)
    (found,) = agreement("dmc/cartpole-balance", reward=lambda *_: np.full((1, 1), np.nan), transitions=3)
    assert "it says nan" in found.detail
