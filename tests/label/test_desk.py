"""What is asked, of whom, and what is accepted."""

import json
import math

import pytest
from labelled import made, opened

from foreplan.data.journal import Journal
from foreplan.label.desk import LEASE, Desk, Refused


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    session = opened(made(tmp_path_factory.mktemp("runs") / "walk"))
    yield session
    session.close()


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def desk(shared, now, tmp_path):
    """A fresh journal and desk for the states of the session; its clock is `now`."""
    journal = Journal(tmp_path / "journal.jsonl", 2, 1)
    fresh = Desk(journal, shared.spec, lambda: now[0])
    fresh.ask(shared.policy, list(shared.desk.queue.visits.values()))
    for state in fresh.queue.visits:
        fresh.make_ready(state)
    yield fresh
    journal.close()


def label(state: str, id: str = "a", page: str = "p", **changes) -> dict:
    message = {"id": id, "state": state, "policy": "policy-0", "page": page, "who": "anna", "verdict": "label"}
    return message | {"action": [0.5], "seconds": 1.5} | changes


def lines(desk: Desk) -> list[dict]:
    return [json.loads(line) for line in desk.journal.path.read_text().splitlines()]


def ask(desk: Desk, page: str, want: int = 1, holding: tuple[str, ...] = ()) -> list[str]:
    return [visit.id for visit in desk.lease(page, holding, want)[0]]


def test_a_label_says_all_that_its_provenance_is(desk) -> None:
    (state,) = ask(desk, "p")
    assert desk.answer(label(state))
    visit = desk.queue.visits[state]
    (line,) = lines(desk)
    assert (line["who"], line["policy"], line["action"], line["seconds"]) == ("human:anna", "policy-0", [0.5], 1.5)
    assert line["obs"] == visit.obs.tolist()
    assert line["policy_action"] == visit.action.tolist()


def test_a_label_counts_once_however_often_it_is_sent(desk) -> None:
    first, second = ask(desk, "p", 2)
    assert desk.answer(label(first))
    assert not desk.answer(label(first))
    assert not desk.answer(label(first, action=[-0.5]))  # the first answer stays
    with pytest.raises(Refused, match="labelled already"):
        desk.answer(label(first, id="b"))
    assert desk.answer(label(second, id="b", verdict="skip"))
    assert [(line["id"], line["action"]) for line in lines(desk)] == [("a", [0.5]), ("b", None)]
    counts = desk.counts()
    assert [counts[name] for name in ("done", "skipped", "left", "asked")] == [1, 1, 10, 12]


def test_each_state_is_handed_out_once(desk, now) -> None:
    anna, bert = ask(desk, "anna", 5), ask(desk, "bert", 20)
    assert len({*anna, *bert}) == len(anna) + len(bert) == 12
    assert ask(desk, "anna", 20) == anna  # after a reload it gets its own again
    with pytest.raises(Refused, match="someone else"):
        desk.answer(label(bert[0], page="anna"))
    now[0] = LEASE - 1
    assert desk.lease("anna", anna, 0) == ([], [])  # still there
    now[0] = LEASE + 1  # bert is not
    assert ask(desk, "anna", 20, tuple(anna)) == bert
    assert desk.lease("bert", bert, 0)[1] == bert


def test_a_state_that_nobody_else_has_may_be_answered_late(desk, now) -> None:
    (state,) = ask(desk, "anna")
    now[0] = 10 * LEASE
    assert desk.answer(label(state, page="anna"))


def test_undo_hands_the_state_to_the_same_page_again(desk) -> None:
    (state,) = ask(desk, "p")
    desk.answer(label(state))
    with pytest.raises(Refused, match="someone else's"):
        desk.undo({"undo": "a", "page": "other"})
    assert desk.undo({"undo": "a", "page": "p"})
    assert not desk.undo({"undo": "a", "page": "p"})
    assert not desk.answer(label(state))  # sent again: it was taken back, and stays so
    assert desk.counts()["done"] == 0
    assert state not in ask(desk, "other", 20)
    assert desk.answer(label(state, id="b", action=[0.25]))
    assert [one.action for one in desk.journal.labels] == [(0.25,)]
    with pytest.raises(Refused, match="no label 'c'"):
        desk.undo({"undo": "c", "page": "p"})


def test_a_new_desk_reads_what_the_journal_says(desk, shared) -> None:
    first, second = ask(desk, "p", 2)
    desk.answer(label(first))
    desk.answer(label(second, id="b"))
    desk.undo({"undo": "b", "page": "p"})
    desk.journal.close()
    again = Desk(Journal(desk.journal.path, 2, 1), shared.spec)
    again.ask(shared.policy, list(shared.desk.queue.visits.values()))
    assert (again.is_open(first), again.is_open(second)) == (False, True)
    assert not again.answer(label(first))
    assert not again.answer(label(second, id="b"))
    again.journal.close()


BAD = {
    "unknown state": ({"state": "0-0-9-9-ffff"}, 404, "unknown state '0-0-9-9-ffff'"),
    "no state": ({"state": None}, 404, "unknown state None"),
    "a list as state": ({"state": []}, 404, "unknown state"),
    "old policy": ({"policy": "policy-7"}, 409, "policy-0 has replaced policy-7"),
    "too large": ({"action": [1.01]}, 422, r"action\[0\] is 1.01; accepted: numbers from -1 to 1"),
    "not a number": ({"action": [math.nan]}, 422, r"action\[0\] is nan"),
    "null": ({"action": [None]}, 422, r"action\[0\] is None"),
    "true": ({"action": [True]}, 422, r"action\[0\] is True"),
    "a word": ({"action": ["much"]}, 422, r"action\[0\] is 'much'"),
    "too many": ({"action": [0.1, 0.2]}, 422, "a list of 1 numbers"),
    "none": ({"action": None}, 422, "a list of 1 numbers"),
    "unknown verdict": ({"verdict": "skipp"}, 422, "unknown verdict 'skipp'; did you mean 'skip'"),
    "no id": ({"id": ""}, 422, "id is ''"),
    "long id": ({"id": "x" * 101}, 422, "at most 100"),
    "no name": ({"who": 3}, 422, "who is 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_says_why_and_changes_nothing(desk, case) -> None:
    changes, status, why = BAD[case]
    (state,) = ask(desk, "p")
    with pytest.raises(Refused, match=why) as refusal:
        desk.answer(label(state) | changes)
    assert refusal.value.status == status
    assert lines(desk) == []
    assert desk.answer(label(state))  # and the page goes on


def test_agreement_is_the_share_of_labels_near_the_policys_actions(desk) -> None:
    for number, (state, distance) in enumerate(zip(ask(desk, "p", 4), (0.0, 0.05, 0.5, 1.0), strict=True)):
        own = float(desk.queue.visits[state].action[0])
        desk.answer(label(state, id=str(number), action=[own - math.copysign(distance, own)], seconds=number))
    counts = desk.counts()
    assert (counts["agreement"], counts["seconds"]) == (0.5, 1.5)
