"""What a person is told while something lasts."""

import pytest

from foreplan.run import display
from foreplan.run.display import Plain, to_go


def test_a_plain_display_tells_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """480 updates of an eighth of a second each: a line at the beginning, and one when 20 seconds are over."""
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    plain = Plain()
    for done in range(480):
        plain.doing(f"learning, {to_go(480 - done, 8.0 if done else 0.0)}")
        now[0] += 0.125
    plain.doing("")
    plain.doing("evaluating")
    assert capsys.readouterr().out.splitlines() == [
        "learning, 480 updates to go ...",
        "learning, 319 updates to go, 0m40s left ...",
        "learning, 158 updates to go, 0m20s left ...",
        "evaluating ...",
    ]
