"""An object's attributes as nested dicts of arrays and JSON values, and back: what a snapshot is made of.

Numbers come back bit for bit and with their types; what is not plain data raises `Uncapturable`, so that nothing is
ever lost in silence.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

KIND = "__kind__"


class Uncapturable(TypeError):
    """An attribute is not plain data."""


def encode(value: Any) -> Any:
    """Plain data as arrays and JSON values. Raises `Uncapturable`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.copy()
    if isinstance(value, np.generic):
        return {KIND: "scalar", "value": np.asarray(value)}
    if isinstance(value, np.random.Generator):
        return {KIND: "generator", "state": encode(value.bit_generator.state)}
    if isinstance(value, np.random.RandomState):
        return {KIND: "random_state", "state": encode(value.get_state(legacy=False))}
    if type(value) in (tuple, list, deque):
        items = {str(i): encode(item) for i, item in enumerate(value)}
        return {KIND: type(value).__name__, "items": items, "maxlen": getattr(value, "maxlen", None)}
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {KIND: "dict", "items": {key: encode(item) for key, item in value.items()}}
    raise Uncapturable(f"{type(value).__module__}.{type(value).__qualname__}")


def decode(saved: Any, current: Any = None) -> Any:
    """What `encode` was given. A random generator that exists already is set in place: others may hold it."""
    if isinstance(saved, np.ndarray):
        return saved.copy()
    if not isinstance(saved, Mapping):
        return saved
    kind = saved[KIND]
    if kind == "scalar":
        return saved["value"][()]
    if kind == "generator":
        state = decode(saved["state"])
        if not isinstance(current, np.random.Generator):
            current = np.random.Generator(getattr(np.random, state["bit_generator"])())
        current.bit_generator.state = state
        return current
    if kind == "random_state":
        current = current if isinstance(current, np.random.RandomState) else np.random.RandomState()
        current.set_state(decode(saved["state"]))
        return current
    if kind == "dict":
        return {key: decode(item) for key, item in saved["items"].items()}
    items = [decode(saved["items"][str(i)]) for i in range(len(saved["items"]))]
    return deque(items, saved["maxlen"]) if kind == "deque" else tuple(items) if kind == "tuple" else items


def capture(owner: Any, types: tuple[type, ...] = (), names: Iterable[str] = ()) -> dict[str, Any]:
    """All attributes of `owner` save those of the given types and names, which hold no state of their own.

    Raises `Uncapturable`, which names the attribute.
    """
    saved = {}
    for name, value in vars(owner).items():
        if isinstance(value, types) or name in names or is_view(value):
            continue
        try:
            saved[name] = encode(value)
        except Uncapturable as error:
            raise Uncapturable(f"{type(owner).__qualname__}.{name} ({error})") from None
    return saved


def install(owner: Any, saved: Mapping[str, Any], types: tuple[type, ...] = (), names: Iterable[str] = ()) -> None:
    """Give `owner` the attributes that `capture` found; those that did not exist then are deleted."""
    for name in set(capture(owner, types, names)) - set(saved):
        delattr(owner, name)
    for name, value in saved.items():
        setattr(owner, name, decode(value, getattr(owner, name, None)))


def is_view(value: Any) -> bool:
    """Whether an array's memory belongs to something that is not an array, such as a simulator."""
    return isinstance(value, np.ndarray) and value.base is not None and not isinstance(value.base, np.ndarray)
