"""Nested plain data, such as a snapshot, taken apart into JSON and arrays, and put together again."""

from collections.abc import Mapping
from typing import Any

import numpy as np

ARRAY = "$array"


def without_arrays(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON, each array replaced by a reference to its path; the arrays go into `arrays`."""
    if isinstance(value, np.ndarray | np.generic):
        arrays[path] = np.asarray(value)
        return {ARRAY: path}
    if isinstance(value, Mapping):
        return {str(key): without_arrays(item, f"{path}/{key}".lstrip("/"), arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_arrays(item, f"{path}/{index}", arrays) for index, item in enumerate(value)]
    return value


def with_arrays(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `without_arrays`; tuples come back as lists."""
    if isinstance(value, dict):
        if ARRAY in value:
            return arrays[value[ARRAY]]
        return {key: with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [with_arrays(item, arrays) for item in value]
    return value
