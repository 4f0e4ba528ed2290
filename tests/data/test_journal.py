"""The journal of labels: none is lost, none is doubled, and what a crash leaves is said."""

import json
from dataclasses import asdict, replace

import pytest

from foreplan.core.errors import UsageError
from foreplan.data.journal import Journal, Label

LABEL = Label(
    id="a-1",
    state="round-000/17",
    obs=(0.5, -2.0),
    policy_action=(0.0,),
    action=(1.0,),
    verdict="label",
    who="human:anna",
    when=1.5e9,
    policy="step-000000100",
    seconds=1.25,
)
SKIP = replace(LABEL, id="a-2", action=None, verdict="skip")


OPEN: list[Journal] = []


def journal(path, say=pytest.fail):
    OPEN.append(Journal(path / "labels.jsonl", obs_dim=2, action_dim=1, say=say))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


def test_labels_come_back_in_order_and_once(tmp_path) -> None:
    first = journal(tmp_path)
    assert [first.add(label) for label in (LABEL, SKIP, LABEL, replace(LABEL, action=(0.5,)))] == [
        True,
        True,
        False,
        False,
    ]
    assert journal(tmp_path).labels == first.labels == [LABEL, SKIP]


def test_a_label_is_on_the_disk_before_it_is_acknowledged(tmp_path) -> None:
    journal(tmp_path).add(LABEL)  # not closed yet
    (line,) = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(asdict(LABEL)))


def test_undo_is_a_line_more(tmp_path) -> None:
    first = journal(tmp_path)
    first.add(LABEL)
    first.add(SKIP)
    assert [first.undo(id) for id in ("a-1", "a-1", "nobody")] == [True, False, False]
    assert journal(tmp_path).labels == [SKIP]
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 3
    assert not journal(tmp_path).add(LABEL)  # sent again after it was undone: still known


@pytest.mark.parametrize("torn", ['{"id": "a-3", "sta', '{"undo": "a-1"'])
def test_a_torn_last_line_is_cut_off_and_said_so(tmp_path, torn) -> None:
    journal(tmp_path).add(LABEL)
    with (tmp_path / "labels.jsonl").open("a") as file:
        file.write(torn)
    said: list[str] = []
    again = journal(tmp_path, said.append)
    again.add(SKIP)
    assert "half written" in said[0]
    assert journal(tmp_path).labels == [LABEL, SKIP]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": (1.0,)}, "obs: 1 numbers; 2 are needed"),
        ({"action": (2.0,)}, r"action: \[2.0\] leaves \[-1, 1\]"),
        ({"action": (float("nan"),)}, "leaves"),
        ({"action": None}, "action: None with the verdict 'label'"),
        ({"verdict": "skip"}, "with the verdict 'skip'"),
        ({"verdict": "maybe"}, "accepted: label, skip, bad"),
        ({"id": ""}, "id: it is empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_written(tmp_path, change, message) -> None:
    with pytest.raises(UsageError, match=message):
        journal(tmp_path).add(replace(LABEL, **change))
    assert journal(tmp_path).labels == []


@pytest.mark.parametrize("line", ["nonsense", '{"id": "a"}', '{"obs": 3}'])
def test_a_damaged_line_is_named(tmp_path, line) -> None:
    journal(tmp_path).add(LABEL)
    with (tmp_path / "labels.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match=r"labels.jsonl, line 2 "):
        journal(tmp_path)
