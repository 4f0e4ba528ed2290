"""What a worker process runs. Nothing here may import JAX: it would cost a second and 100 MB a worker."""

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from foreplan.core.errors import EnvError, RenderUnavailable, UsageError


def work(pipe: Connection, build: Callable[..., Any], *args: Any) -> None:
    """Build a `Batch`, then answer (method, arguments) with (True, result) or (False, exception), until it is closed.

    The first answer, unasked, says whether it could be built: its spec and exactness.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it saves the run first
    batch, method = None, ""
    while method != "close":
        try:
            if batch is None:
                batch = build(*args)
                answer: Any = batch.spec, batch.exactness
            else:
                method, arguments = pipe.recv()
                answer = getattr(batch, method)(*arguments)
                answer = (answer, batch.exactness) if method == "reset" else answer
            pipe.send((True, answer))
        except EOFError:  # the parent is gone
            return
        except Exception as error:
            known = isinstance(error, (UsageError, EnvError, RenderUnavailable))  # these pass through a pipe
            pipe.send((False, error if known else RuntimeError(f"{type(error).__name__}: {error}")))
            if batch is None:
                return
