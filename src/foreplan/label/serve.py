"""`foreplan label RUN`: open the run, print the address of its page, and serve it until it is told to stop."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreplan.core.errors import UsageError
from foreplan.label.imitation import Imitation
from foreplan.label.retraining import Fit
from foreplan.label.server import application
from foreplan.label.session import FOLDER, Options, Session
from foreplan.run.saved import Saved


def serve(
    run: Path,
    options: Options,
    host: str = "127.0.0.1",
    port: int = 8421,
    fit: Fit | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """`fit` retrains; None: by imitation. Returns, when it is stopped, how many labels there are. Raises UsageError."""
    try:
        import uvicorn
    except ImportError as error:
        raise UsageError("the labelling page needs starlette and uvicorn: pip install 'foreplan[web]'") from error
    saved = Saved.open(run, say)
    with listen(host, port) as listener:
        token = token_of(run / FOLDER)
        session = Session(saved, options, fit or Imitation(saved, options.episodes).fit, say)
        app = application(session, token, ("127.0.0.1", "localhost", host))
        say(f"label at http://{host}:{listener.getsockname()[1]}/?token={token}")
        try:
            config = uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            session.close()
    return session.desk.counts() | {"journal": str(session.journal.path)}


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises UsageError where the port is taken."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be served at: {error.strerror}; choose another --port") from error


def token_of(folder: Path) -> str:
    """The secret of a run's page. It is kept, so that a page that is open survives a restart of its server."""
    path = folder / "token"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(16))
    return path.read_text().strip()
