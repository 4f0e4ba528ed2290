"""The page and what it asks for, over HTTP on this machine.

    GET  /                 the page; with ?token=... it sets the cookie that everything below asks for
    GET  /static/NAME      its parts
    GET  /api/hello        what does not change;   GET /api/status   what does
    GET  /api/frame/STATE  the state, large;       GET /api/clip/STATE   the states just before it
    GET  /api/film/NAME    before and after the last retraining
    POST /api/lease        states to label;        POST /api/answer, /api/undo   labels
    POST /api/preview      a look ahead;           POST /api/retrain, /api/accept, /api/discard

What is refused is answered by {"error": reason}, with a status that says whose fault it is.
"""

import json
import secrets
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from foreplan.core.errors import UsageError
from foreplan.label.desk import Refused
from foreplan.label.session import Session

STATIC = Path(__file__).parent / "static"
LARGEST = 100_000  # bytes of a message
POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
KEPT = {"Cache-Control": "private, max-age=86400, immutable"}  # a state's pictures never change
LOST = "wrong or missing token: open the address that foreplan label has printed"


def application(session: Session, token: str, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Any:
    """The ASGI application. `hosts` are the names by which it may be reached. Raises UsageError without `web`."""
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise UsageError("the labelling page needs starlette and uvicorn: pip install 'foreplan[web]'") from error
    posts: dict[str, Callable[[dict[str, Any]], Any]] = {
        "lease": session.lease,
        "answer": lambda message: {"new": session.desk.answer(message)},
        "undo": lambda message: {"new": session.desk.undo(message)},
        "preview": session.preview,
        "retrain": lambda message: session.retrain(),
        "accept": lambda message: session.accept(),
        "discard": lambda message: session.discard(),
    }
    routes = [
        Route("/", lambda request: _picture((STATIC / "index.html").read_bytes(), "text/html", {})),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/hello", _getting(lambda request: session.hello())),
        Route("/api/status", _getting(lambda request: session.status())),
        Route("/api/frame/{state}", _getting(lambda r: _webp(session.pictures(r.path_params["state"])[0]))),
        Route("/api/clip/{state}", _getting(lambda r: _webp(session.pictures(r.path_params["state"])[1].image))),
        Route("/api/film/{name}", _getting(lambda r: _webp(_film(session, r.path_params["name"])))),
        *(Route(f"/api/{name}", _posting(work), methods=["POST"]) for name, work in posts.items()),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token, hosts=hosts)])


class Guard:
    """Lets in who has the token and asks for this machine by name; the other headers keep the page from asking
    elsewhere, and other pages from asking here."""

    def __init__(self, app: Any, token: str, hosts: tuple[str, ...]) -> None:
        self.app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response = self._refuse(Request(scope))
        await (response or self.app)(scope, receive, _with_headers(send))

    def _refuse(self, request: Any) -> Any:
        """What is answered in place of the application's answer; None where it may answer."""
        from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

        host, _, port = request.headers.get("host", "").partition(":")
        if host not in self._hosts:
            return PlainTextResponse(f"unknown host {host!r}", 403)
        cookie = f"foreplan-{port or 80}"  # cookies are shared by all ports of a host
        offered = request.query_params.get("token") if request.url.path == "/" else None
        if offered is not None and self._is_token(offered):
            response = RedirectResponse("/", 303)
            response.set_cookie(cookie, self._token, httponly=True, samesite="strict")
            return response
        jar = SimpleCookie(request.headers.get("cookie", ""))
        carried = jar[cookie].value if cookie in jar else request.headers.get("authorization", "")[len("Bearer ") :]
        if offered is not None or not self._is_token(carried):
            api = request.url.path.startswith("/api/")
            return JSONResponse({"error": LOST}, 403) if api else PlainTextResponse(LOST, 403)
        return None

    def _is_token(self, word: str) -> bool:
        return secrets.compare_digest(word.encode(), self._token.encode())


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message["headers"]}
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in known)]
        await send(message)

    return sending


def _getting(work: Callable[[Any], Any]) -> Any:
    """`work` in a thread of the server's pool: it may wait for the studio."""

    async def endpoint(request: Any) -> Any:
        return await _answer(work, request)

    return endpoint


def _posting(work: Callable[[dict[str, Any]], Any]) -> Any:
    async def endpoint(request: Any) -> Any:
        try:
            message = await _message(request)
        except Refused as refusal:
            return _refusal(refusal)
        return await _answer(work, message)

    return endpoint


async def _answer(work: Callable[[Any], Any], given: Any) -> Any:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, Response

    try:
        found = await run_in_threadpool(work, given)
    except Refused as refusal:
        return _refusal(refusal)
    return found if isinstance(found, Response) else JSONResponse(found if found is not None else {})


async def _message(request: Any) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused(415, "a message is JSON: content-type must be application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, f"a message has at most {LARGEST} bytes")
    try:
        message = json.loads(body or b"{}")
    except ValueError as error:
        raise Refused(400, f"this is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise Refused(400, "a message is a JSON object")
    return message


def _refusal(refusal: Refused) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": str(refusal)}, refusal.status)


def _film(session: Session, name: str) -> bytes:
    if name not in session.films:
        raise Refused(404, f"there is no film {name!r}")
    return session.films[name].image


def _webp(image: bytes) -> Any:
    return _picture(image, "image/webp", KEPT)


def _picture(content: bytes, kind: str, headers: dict[str, str]) -> Any:
    from starlette.responses import Response

    return Response(content, media_type=kind, headers=headers)
