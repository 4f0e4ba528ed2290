"""Users' functions, by name."""

import importlib
import os
import sys
from collections.abc import Callable

from foreplan.core.errors import UsageError, unknown


def load(name: str, what: str, kind: str = "function") -> Callable:
    """The callable that "package.module:attribute" names; modules are also looked for in the working directory. Raises
    `UsageError` where there is none: it says `what` the callable was to be, and calls it a `kind`."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{what} is {name!r}; accepted: package.module:{kind}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"{what} {name!r}: module {module_name!r} cannot be imported: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(kind, attribute, callables, hint=f"a callable of module {module_name!r} is needed")
    return found
