"""The tensors of a PyTorch file (`torch.save`, PyTorch 1.6 and newer) as NumPy arrays, without PyTorch and without
running anything that the file names.

Such a file is a ZIP archive: `data.pkl` says how tensors lie in the raw bytes beside it. A pickle calls functions by
name; here each name that plain weights need stands for a harmless function of ours, and every other one is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def _tensor(
    storage: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int], *about_gradients: Any
) -> np.ndarray:
    """A view of a storage; `offset` and `stride` are in elements."""
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else offset
    if offset < 0 or min(stride, default=0) < 0 or last >= max(1, len(storage)):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides).copy()


KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *about: tensor,
    "torch.Size": tuple,
    "torch.device": lambda *name: None,
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Callable:
        if f"{module}.{name}" not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is code; only plain weights are read")
        return KNOWN[f"{module}.{name}"]

    def persistent_load(self, about: Any) -> np.ndarray:
        kind, dtype, key, _, number = about
        raw = self._archive.read(f"{self._root}data/{key}")
        if kind != "storage" or len(raw) != number * np.dtype(dtype).itemsize:
            raise pickle.UnpicklingError(f"storage {key} is not as long as it should be")
        return np.frombuffer(raw, dtype)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors by name, those of nested dictionaries with the names joined by dots. Raises UsageError where the file
    is damaged, of the format before PyTorch 1.6, or names anything but plain weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            (listing,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return dict(_flat(_Reader(archive, listing.removesuffix("data.pkl")).load()))
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist") from error
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} is damaged, or no file of PyTorch 1.6 or newer: {error}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _flat(tree: Any, name: str = "") -> Any:
    if isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, np.ndarray):
        yield name, tree
