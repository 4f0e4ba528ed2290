"""The page's server: who is let in, what is answered, and that it never says anything but a reason."""

import json

import pytest
from labelled import made, opened
from starlette.testclient import TestClient

from foreplan.core.errors import UsageError
from foreplan.label.serve import listen, token_of
from foreplan.label.server import KEPT, application

TOKEN = "a-secret"
BASE = "http://127.0.0.1:8000"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    session = opened(made(tmp_path_factory.mktemp("runs") / "walk"))
    yield application(session, TOKEN)
    session.close()


@pytest.fixture
def stranger(app):
    return TestClient(app, base_url=BASE)


@pytest.fixture
def client(app):
    return TestClient(app, base_url=BASE, headers=BEARER)


def lease(client, page: str = "p", want: int = 1) -> list[dict]:
    return client.post("/api/lease", json={"page": page, "want": want}).json()["states"]


def message(state: dict, id: str, **changes) -> dict:
    known = {"id": id, "state": state["id"], "policy": state["policy"], "page": "p", "who": "anna"}
    return known | {"verdict": "label", "action": [0.5], "seconds": 1.0} | changes


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/hello", "/api/status", "/api/frame/x", "/nowhere"])
@pytest.mark.parametrize("word", [None, "", "a-secre", "another"])
def test_without_the_token_nothing_is_given(stranger, path, word) -> None:
    headers = {} if word is None else {"authorization": f"Bearer {word}", "cookie": f"foreplan-8000={word}"}
    answer = stranger.get(path, headers=headers)
    assert answer.status_code == 403
    assert "foreplan label has printed" in answer.text


def test_without_the_token_nothing_is_taken(stranger, client) -> None:
    (state,) = lease(client)
    done = client.get("/api/status").json()["done"]
    for name in ("lease", "answer", "undo", "preview", "retrain", "accept", "discard"):
        assert stranger.post(f"/api/{name}", json=message(state, "stranger")).status_code == 403
    assert client.get("/api/status").json()["done"] == done


def test_the_printed_address_lets_one_in(stranger) -> None:
    assert stranger.get("/", params={"token": "another"}, follow_redirects=False).status_code == 403
    answer = stranger.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")  # the token does not stay in the address
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "<!doctype html>" in stranger.get("/").text
    assert stranger.get("/api/hello").json()["env"] == "toys:walk"


def test_another_host_name_is_refused(app) -> None:
    """A foreign page whose name has been made to point to this machine gets nothing."""
    assert TestClient(app, base_url="http://evil.example:8000", headers=BEARER).get("/api/status").status_code == 403


def test_the_page_may_ask_only_here(client) -> None:
    for path in ("/", "/static/page.js", "/api/status"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/api/status").headers["cache-control"] == "no-store"


def test_pictures_are_kept_by_the_browser(client) -> None:
    (state,) = lease(client)
    for kind in ("frame", "clip"):
        answer = client.get(f"/api/{kind}/{state['id']}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["cache-control"] == KEPT["Cache-Control"]
    assert client.get("/api/frame/unknown").status_code == 404


def test_a_label_that_is_sent_twice_counts_once(client) -> None:
    (state,) = lease(client)
    before = client.get("/api/status").json()["done"]
    answers = [client.post("/api/answer", json=message(state, "twice")) for _ in range(3)]
    assert [answer.json() for answer in answers] == [{"new": True}, {"new": False}, {"new": False}]
    assert client.get("/api/status").json()["done"] == before + 1
    undone = [client.post("/api/undo", json={"undo": "twice", "page": "p"}).json() for _ in range(2)]
    assert undone == [{"new": True}, {"new": False}]
    assert client.get("/api/status").json()["done"] == before


def test_what_is_refused_says_why_and_the_page_goes_on(client) -> None:
    (state,) = lease(client)
    for changes, status in (({"action": [2.0]}, 422), ({"state": "x"}, 404), ({"policy": "policy-9"}, 409)):
        answer = client.post("/api/answer", json=message(state, "bad") | changes)
        assert answer.status_code == status
        assert len(answer.json()["error"]) > 10
    assert client.post("/api/answer", json=message(state, "good")).json() == {"new": True}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'{"x": "' + b"x" * 100_001 + b'"}', "application/json", 413),
        (b"", "application/json", 422),
        (b'{"page": "p", "want": "many"}', "application/json", 422),
    ],
)
def test_what_is_no_message_is_refused(client, content, kind, status) -> None:
    answer = client.post("/api/lease", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert "error" in answer.json()


def test_two_pages_get_different_states(client) -> None:
    ours, theirs = ({state["id"] for state in lease(client, page, 4)} for page in ("anna", "bert"))
    assert len(ours | theirs) == 8


def test_a_look_ahead_is_a_film_and_a_number(client) -> None:
    (state,) = lease(client)
    asked = {"state": state["id"], "policy": state["policy"], "action": [1.0], "hold": 2}
    found = client.post("/api/preview", json=asked).json()
    for who in ("label", "policy"):
        assert found[who]["strip"].startswith("data:image/webp;base64,")
        assert found[who]["frames"] >= 2
    assert json.dumps(found["label"]["return"]) != "NaN"


def test_the_token_is_kept_and_private(tmp_path) -> None:
    token = token_of(tmp_path / "labels")
    assert len(token) >= 20
    assert token_of(tmp_path / "labels") == token
    assert (tmp_path / "labels" / "token").stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_one_line() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be served at"):
            listen("127.0.0.1", port)
