"""Checkpoints: `step-N/` holds one safetensors file a part, `state.json` for everything else, and SHA256SUMS.

Written aside, flushed to disk and renamed, so that a checkpoint is there whole or not at all; its sums show damage.
A part is a nested dict of NumPy arrays and JSON values. Never pickle.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from foreplan.core.errors import UsageError
from foreplan.core.trees import with_arrays, without_arrays
from foreplan.core.types import Agent, Learner, Spec

FOLDER = "checkpoints"  # of a run directory
SUMS = "SHA256SUMS"
STATE = "state.json"
FORMAT = 1
T = TypeVar("T")


class Damaged(Exception):
    """A checkpoint is partial or its files have changed; the message says which."""


def save(folder: Path, step: int, parts: Mapping[str, Mapping[str, Any]], keep: int) -> Path:
    """Write `folder/step-N` and keep the `keep` newest."""
    final = write(folder / f"step-{step:09d}", parts)
    for path in (*all_checkpoints(folder)[:-keep], *folder.glob(".step-*")):
        shutil.rmtree(path, ignore_errors=True)
    return final


def write(final: Path, parts: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the folder `final`, in place of what is there."""
    folder, partial = final.parent, final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    document: dict[str, Any] = {"format": FORMAT}
    for name, part in parts.items():
        arrays: dict[str, np.ndarray] = {}
        document[name] = without_arrays(part, "", arrays)
        if arrays:
            save_file({key: np.asarray(a, order="C") for key, a in arrays.items()}, partial / f"{name}.safetensors")
    (partial / STATE).write_text(json.dumps(document))
    sums = "".join(f"{_digest(path)}  {path.name}\n" for path in sorted(partial.iterdir()))
    (partial / SUMS).write_text(sums)
    for path in (*partial.iterdir(), partial):
        _flush(path)
    old = folder / f".{final.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():  # of the same step, older or damaged
        final.rename(old)
    partial.rename(final)
    _flush(folder)
    shutil.rmtree(old, ignore_errors=True)
    return final


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, whole or not."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def newest_whole(folder: Path, say: Callable[[str], None]) -> Path:
    """The newest checkpoint that is whole. Damaged ones are set aside as `damaged-step-N`, and said so.

    Raises UsageError where none is whole.
    """
    for path in reversed(all_checkpoints(folder)):
        try:
            verify(path)
            return path
        except Damaged as damage:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            say(f"checkpoint {path.name} is damaged ({damage}); set aside as {aside.name}, trying the one before")
    raise UsageError(f"{folder} holds no whole checkpoint")


def verify(path: Path) -> None:
    """Raise Damaged unless every file of the checkpoint is there and as it was written."""
    try:
        lines = (path / SUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise Damaged(f"{SUMS} is missing or unreadable") from error
    if STATE not in sums:
        raise Damaged(f"{SUMS} is incomplete")
    for name, digest in sums.items():
        if not (path / name).is_file():
            raise Damaged(f"{name} is missing")
        if _digest(path / name) != digest:
            raise Damaged(f"{name} has changed")


def load(path: Path, *names: str) -> dict[str, Any]:
    """The named parts of a checkpoint, or all of them."""
    document = json.loads((path / STATE).read_text())
    if document.pop("format") != FORMAT:
        raise UsageError(f"{path} was written by another version of foreplan")
    parts = {}
    for name in names or document:
        file = path / f"{name}.safetensors"
        parts[name] = with_arrays(document[name], load_file(file) if file.is_file() else {})
    return parts


def paths(tree: Any) -> list[str]:
    """The name of each leaf of a pytree: its path."""
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """A pytree of arrays as a flat dict, named by the path of each leaf; random keys as their data."""
    arrays = jax.device_get([_key_data(leaf) for leaf in jax.tree.leaves(tree)])
    return dict(zip(paths(tree), map(np.asarray, arrays), strict=True))


def unflatten(template: T, arrays: Mapping[str, np.ndarray]) -> T:
    """A tree on the device like `template` (arrays, or shapes of arrays) from what `flatten` returned.

    Raises UsageError where names or shapes differ.
    """

    def leaf(path: Any, like: Any) -> Any:
        name = _name(path)
        if name not in arrays:
            raise UsageError(
                f"the checkpoint has no {name!r}: another configuration, or another version, has written it"
            )
        if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.device_put(arrays[name]))
        if arrays[name].shape != like.shape or arrays[name].dtype != like.dtype:
            found, wanted = (f"{x.dtype}{list(x.shape)}" for x in (arrays[name], like))
            raise UsageError(f"the checkpoint's {name!r} is {found}, and this configuration needs {wanted}")
        return jax.device_put(arrays[name], may_alias=False)

    return jax.tree_util.tree_map_with_path(leaf, template)


def learner_like(agent: Agent, spec: Spec) -> Learner:
    """The structure and shapes of a learner, without making one."""
    return jax.eval_shape(lambda: agent.init(spec, jax.random.key(0)))


def learner_of(agent: Agent, spec: Spec, parts: Mapping[str, Any]) -> Learner:
    """What a checkpoint's parts "learner" and "clock" hold, however many environments `spec` has: a learner may keep
    something of each that it was trained in."""
    return unflatten(learner_like(agent, replace(spec, num_envs=parts["clock"]["num_envs"])), parts["learner"])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _key_data(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
