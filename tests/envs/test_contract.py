"""The checker itself: it believes what is so and finds out what is not."""

import json

import pytest

from foreplan.core.errors import UsageError
from foreplan.envs.contract import Report, check


def failed(report: Report) -> set[str]:
    return {finding.name for finding in report.findings if not finding.ok}


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("jax/pendulum", "bitwise"),
        ("gym/Humanoid-v5", "bitwise"),
        ("gym/CartPole-v1", "bitwise"),
        ("dmc/reacher-hard", "bitwise"),
        ("envs.factories:Noisy", "replay"),
        ("envs.factories:next_step", "replay"),
        ("envs.factories:numbered", "replay"),
        ("envs.factories:Own", "bitwise"),
    ],
)
def test_what_keeps_its_promises_passes(name: str, verdict: str) -> None:
    report = check(name)
    assert report.ok, report
    assert report.verdict == verdict
    assert json.loads(json.dumps(report.json()))["verdict"] == verdict


def test_a_snapshot_that_forgets_is_found_out() -> None:
    report = check("envs.factories:Forgetful")
    assert report.verdict == "none"
    assert failed(report) >= {"rollback", "rollback in another process"}


def test_ignoring_the_seed_is_found_out() -> None:
    report = check("envs.factories:Unseeded")
    assert failed(report) >= {"seed", "seeded steps", "rollback"}
    assert report.verdict == "none"


def test_a_false_claim_never_to_terminate_is_found_out() -> None:
    report = check("envs.factories:Immortal")
    assert failed(report) == {"episode end"}
    assert report.verdict == "bitwise"


@pytest.mark.parametrize("fault", ["Raises", "Nan", "Outside", "WrongShape"])
def test_a_broken_contract_is_reported(fault: str) -> None:
    report = check(f"envs.factories:{fault}")
    assert failed(report) == {"contract"}
    assert "environment 0, step " in report.findings[-1].detail


def test_what_cannot_be_built_is_reported_and_what_does_not_exist_refused() -> None:
    assert failed(check("envs.factories:crashes")) == {"build"}
    with pytest.raises(UsageError):
        check("gym/Nothing-v0")
