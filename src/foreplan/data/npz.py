"""The plain form of a data set: one npz file with the arrays of `Dataset` and `about` as JSON; and folders of rounds.

round-000/steps.npz, round-001/steps.npz, ...    one file a round of DAgger
"""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.data.dataset import DTYPES, VECTORS, About, Dataset, Source, faults, join

FOLDER = "data"  # of a run directory
ROUND_FILE = "steps.npz"
REQUIRED = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "episode")


def save(path: Path, data: Dataset) -> Path:
    """Written aside and renamed, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    contents: dict[str, Any] = {**data.arrays, "about": np.array(json.dumps(dataclasses.asdict(data.about)))}
    with partial.open("wb") as file:
        np.savez_compressed(file, **contents)
    partial.rename(path)
    return path


def load(path: Path, check: bool = True, rewards: bool = True) -> Dataset:
    """A file, or all rounds of a folder. Raises UsageError, which names file, episode and field of what is wrong;
    `check=False` looks at shapes only, `rewards=False` lets data without rewards through."""
    if path.is_dir():
        rounds = sorted(path.glob(f"round-*/{ROUND_FILE}"))
        if not rounds:
            raise UsageError(f"{path} holds no data: neither an npz file nor folders round-000, round-001, ...")
        return join([load(file, check, rewards) for file in rounds])
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    data = _dataset(path, arrays, rewards)
    for fault in faults(data) if check else ():
        raise UsageError(f"{path}, {fault}")
    return data


def _dataset(path: Path, arrays: dict[str, np.ndarray], rewards: bool) -> Dataset:
    """Arrays as a data set; without labels every action is its own."""
    unpaid = not rewards and "reward" not in arrays and "obs" in arrays
    if unpaid:
        arrays["reward"] = np.zeros(len(arrays["obs"]), np.float32)
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise UsageError(f"{path} has no {missing[0]!r}; needed are {', '.join(REQUIRED)}")
    about = _about(path, arrays.pop("about", None))
    about = dataclasses.replace(about, rewards=about.rewards and not unpaid)
    steps = len(arrays["reward"])
    arrays.setdefault("label", arrays["action"])
    arrays.setdefault("labelled", np.ones(steps, np.bool_))
    arrays.setdefault("intervention", np.zeros(steps, np.bool_))
    if "source" not in arrays:
        arrays["source"] = np.zeros(steps, np.int32)
        about = dataclasses.replace(about, sources=(Source(f"file:{path.name}"),))
    strange = [name for name in arrays if name not in DTYPES]
    if strange:
        raise UsageError(f"{path} has an array {strange[0]!r}, which means nothing here; known: {', '.join(DTYPES)}")
    for name, array in arrays.items():
        if array.ndim != 1 + (name in VECTORS) or len(array) != steps:
            shape = f"[{steps}, ...]" if name in VECTORS else f"[{steps}]"
            raise UsageError(f"{path}, {name}: its shape is {list(array.shape)}; {shape} is needed")
        if not np.can_cast(array.dtype, DTYPES[name], "same_kind"):
            raise UsageError(f"{path}, {name}: its type is {array.dtype}; {np.dtype(DTYPES[name])} is needed")
    if arrays["obs"].shape != arrays["next_obs"].shape or arrays["action"].shape != arrays["label"].shape:
        raise UsageError(f"{path}: obs and next_obs, action and label must have the same shapes")
    return Dataset(**{name: arrays[name].astype(DTYPES[name]) for name in DTYPES}, about=about)


def _about(path: Path, text: np.ndarray | None) -> About:
    if text is None:
        return About()
    try:
        known = json.loads(str(text))
        return About(**known | {"sources": tuple(Source(**source) for source in known["sources"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}, about: {' '.join(str(error).split())}") from None
