"""LeRobot's data sets (Hugging Face), format v3.0: a folder of JSON and Parquet files, written and not read.

    meta/info.json                              what the columns are, how much there is and where
    meta/stats.json                             of every column: least, most, mean, deviation, quantiles
    meta/tasks.parquet                          the tasks by number: one, the environment's name
    meta/episodes/chunk-000/file-000.parquet    a row an episode: its rows below, and its own statistics
    meta/foreplan.json                          ours: `about`, with the sources that the column `source` counts
    data/chunk-000/file-000.parquet             a row a step, a row group an episode

There are no pictures: `observation.state` is the whole observation. Of the observation an episode ends in, and of the
bounds that actions once had, the format keeps nothing, which is why there is no way back.
"""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.data.dataset import Dataset

FPS = 30  # where nobody says how long a decision lasts
CHUNK = 1000  # files a folder
FILE_MB = 100  # a file of rows, before compression
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, EPISODES = f"data/{PLACE}.parquet", f"meta/episodes/{PLACE}.parquet"
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Columns = Mapping[str, np.ndarray]  # [step] or [step, n], n > 1


def save(folder: Path, data: Dataset, fps: int = FPS) -> None:
    """Written aside and renamed, so that it is there whole or not at all. `fps` are decisions a second. Raises
    UsageError where the folder is there already, or there is nothing to write."""
    package()
    if not len(data):
        raise UsageError(f"lerobot:{folder} cannot be written: there is no step")
    if folder.exists():
        raise UsageError(f"lerobot:{folder} cannot be written: it is there already")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, data, fps)
        partial.rename(folder)
    except OSError as error:
        raise UsageError(f"lerobot:{folder} cannot be written: {' '.join(str(error).split())}") from None


def _write(root: Path, data: Dataset, fps: int) -> None:
    arrow, _ = package()
    columns, task = _columns(data, fps), data.about.env or "unknown"
    spans = [steps for _, steps in data.episodes()]
    table = arrow.table({name: _arrow(column) for name, column in columns.items()})
    files = _files(spans, table.nbytes / len(data))
    _write_rows(root, table, spans, files)
    _write_episodes(root, columns, spans, files, task)
    _write_tasks(root / "meta/tasks.parquet", task)
    info = _info(columns, len(spans), fps)
    stats = {name: _stats(column) for name, column in columns.items()}
    for name, content in (("info", info), ("stats", stats), ("foreplan", dataclasses.asdict(data.about))):
        (root / f"meta/{name}.json").write_text(json.dumps(content, indent=4))


def _columns(data: Dataset, fps: int) -> dict[str, np.ndarray]:
    """LeRobot's names for what we have; the last five columns are in all its data sets."""
    lengths = [steps.stop - steps.start for _, steps in data.episodes()]
    frame = np.concatenate([np.arange(length) for length in lengths])
    columns = {
        "observation.state": data.obs,
        "action": data.action,
        "next.reward": data.reward,
        "next.done": data.terminated | data.truncated,
        "next.truncated": data.truncated & ~data.terminated,
        "intervention": data.intervention,
        "label": data.label,
        "labelled": data.labelled,
        "source": data.source.astype(np.int64),
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(len(data)),
        "task_index": np.zeros(len(data), np.int64),
    }
    return {name: column[:, 0] if column.shape[1:] == (1,) else column for name, column in columns.items()}


def _info(columns: Columns, episodes: int, fps: int) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": len(columns["index"]),
        "total_tasks": 1,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": None,
        "features": {name: _feature(name, column) for name, column in columns.items()},
    }


def _feature(name: str, column: np.ndarray) -> dict[str, Any]:
    size = column.shape[1] if column.ndim == 2 else 1
    entries = [f"{name.split('.')[-1]}_{i}" for i in range(size)] if column.ndim == 2 else None
    return {"dtype": str(column.dtype), "shape": [size], "names": entries}


def _stats(column: np.ndarray) -> dict[str, list]:
    """By name, over steps; one number an entry."""
    rows = column.reshape(len(column), -1).astype(np.float64)
    found = {"min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    found |= dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in found.items()} | {"count": [len(rows)]}


def _write_tasks(path: Path, task: str) -> None:
    """LeRobot reads it with pandas, the words as the index, which its metadata must say."""
    arrow, parquet = package()
    kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in kinds
    ]
    about = {"index_columns": ["task"], "column_indexes": [], "columns": described}
    table = arrow.table({"task_index": arrow.array([0], arrow.int64()), "task": [task]})
    parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), path)


def _files(spans: list[slice], step_bytes: float) -> list[int]:
    """Which file each episode is in: 0, 1, ..., a new one where `FILE_MB` are full."""
    full = [int(steps.start * step_bytes / (FILE_MB * 2**20)) for steps in spans]
    return np.unique(full, return_inverse=True)[1].tolist()  # no number is left out where an episode fills several


def _write_rows(root: Path, table: Any, spans: list[slice], files: list[int]) -> None:
    _, parquet = package()
    for file, group in itertools.groupby(zip(files, spans, strict=True), key=lambda pair: pair[0]):
        with parquet.ParquetWriter(_made(root, DATA, file), table.schema) as writer:
            for _, steps in group:
                writer.write_table(table.slice(steps.start, steps.stop - steps.start))


def _write_episodes(root: Path, columns: Columns, spans: list[slice], files: list[int], task: str) -> None:
    """Of each episode where its rows are, and their statistics."""
    arrow, parquet = package()
    rows = []
    for episode, (steps, file) in enumerate(zip(spans, files, strict=True)):
        row = {"episode_index": episode, "tasks": [task], "length": steps.stop - steps.start}
        row |= {"data/chunk_index": file // CHUNK, "data/file_index": file % CHUNK}
        row |= {"dataset_from_index": steps.start, "dataset_to_index": steps.stop}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        for name, column in columns.items():
            row |= {f"stats/{name}/{stat}": value for stat, value in _stats(column[steps]).items()}
        rows.append(row)
    parquet.write_table(arrow.Table.from_pylist(rows), _made(root, EPISODES, 0))


def _made(root: Path, place: str, file: int) -> Path:
    """The path of a file by its number, in a folder that is there."""
    path = root / place.format(chunk_index=file // CHUNK, file_index=file % CHUNK)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _arrow(column: np.ndarray) -> Any:
    """Vectors as lists of one length."""
    arrow, _ = package()
    if column.ndim == 1:
        return arrow.array(column)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(column.ravel()), column.shape[1])


def package() -> tuple[Any, Any]:
    """pyarrow, and its module for Parquet files."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("lerobot: data sets need the package pyarrow: pip install 'foreplan[data]'") from error
    return pyarrow, parquet
