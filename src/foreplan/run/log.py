"""What a run writes line by line: `metrics.jsonl` and `eval.jsonl`, and TensorBoard's files where asked for."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.types import Metrics, TimeStep


class Lines:
    """A file of JSON objects, one a line, each written out at once. What follows `position` can be cut off again."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab")

    def write(self, record: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(_finite(record)).encode() + b"\n")
        self.file.flush()

    @property
    def position(self) -> int:
        return self.file.tell()

    def cut(self, position: int) -> None:
        self.file.truncate(position)
        self.file.seek(position)


class Log:
    """The log of a run directory. Non-finite numbers are written as null."""

    def __init__(self, out: Path, tensorboard: bool = False) -> None:
        self.metrics, self.evaluations = Lines(out / "metrics.jsonl"), Lines(out / "eval.jsonl")
        self.board = summary_writer()(str(out / "tensorboard")) if tensorboard else None

    def write(self, record: Mapping[str, Any]) -> None:
        self.metrics.write(record)
        self._mirror("train", record)

    def evaluation(self, record: Mapping[str, Any]) -> None:
        self.evaluations.write(record)
        self._mirror("eval", {**record, "mean": float(np.mean(record["returns"]))})

    def _mirror(self, prefix: str, record: Mapping[str, Any]) -> None:
        if self.board:
            for name, value in record.items():
                if isinstance(value, int | float):
                    self.board.add_scalar(f"{prefix}/{name}", value, record["env_steps"])

    def snapshot(self) -> dict[str, int]:
        return {"metrics": self.metrics.position, "evaluations": self.evaluations.position}

    def close(self) -> None:
        self.metrics.file.close()
        self.evaluations.file.close()
        if self.board:
            self.board.close()

    def restore(self, snapshot: Mapping[str, int]) -> None:
        """Cut off what was written after the checkpoint: it will be written again."""
        self.metrics.cut(snapshot["metrics"])
        self.evaluations.cut(snapshot["evaluations"])


class Meter:
    """What happened since the last line of the log. The agent's metrics stay on the device until `read`."""

    def __init__(self, num_envs: int) -> None:
        self.pending: dict[str, list[Metrics]] = {}  # by kind: "act", "learn"
        self.ended: list[tuple[float, int]] = []  # return, and length in decisions, of the episodes that ended
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, np.int64)
        self.episode = np.arange(num_envs, dtype=np.int32)  # the number of each environment's running episode

    def add(self, kind: str, metrics: Metrics) -> None:
        self.pending.setdefault(kind, []).append(metrics)

    def stepped(self, after: TimeStep) -> int:
        """Count one step of every environment; returns how many episodes it ended."""
        self.returns += np.asarray(after.reward, np.float64)
        self.lengths += 1
        over = np.asarray(after.terminated) | np.asarray(after.truncated)
        self.ended += [(float(self.returns[i]), int(self.lengths[i])) for i in np.flatnonzero(over)]
        self.drop(over)
        return int(over.sum())

    def drop(self, over: np.ndarray) -> None:
        """Forget the running episodes of the environments in `over`, bool [env]: new ones begin."""
        self.returns[over], self.lengths[over] = 0.0, 0
        self.episode[over] = self.episode.max() + 1 + np.arange(over.sum(), dtype=np.int32)

    def read(self) -> dict[str, float]:
        """The means since the last call, by name; then begin anew."""
        means = {
            name: float(np.mean(values, dtype=np.float64))
            for metrics in self._fetch().values()
            for name, values in metrics.items()
        }
        if self.ended:
            returns, lengths = zip(*self.ended, strict=True)
            means |= {"return": float(np.mean(returns)), "episode_length": float(np.mean(lengths))}
        self.pending, self.ended = {}, []
        return means

    def _fetch(self) -> dict[str, dict[str, np.ndarray]]:
        """What is pending, by kind and name, each [count, ...]."""
        pending = jax.device_get(self.pending)
        return {kind: {name: np.stack([m[name] for m in many]) for name in many[0]} for kind, many in pending.items()}

    def snapshot(self) -> dict[str, Any]:
        ended = np.array(self.ended, np.float64).reshape(-1, 2)
        return {
            "pending": self._fetch(),
            "ended": ended,
            "returns": self.returns,
            "lengths": self.lengths,
            "episode": self.episode,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.pending = {}
        for kind, metrics in snapshot["pending"].items():
            names, columns = list(metrics), list(metrics.values())
            self.pending[kind] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        self.ended = [(float(episode_return), int(length)) for episode_return, length in snapshot["ended"]]
        self.returns, self.lengths = snapshot["returns"].copy(), snapshot["lengths"].copy()
        self.episode = snapshot["episode"].copy()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_writer() -> Any:
    """The class that writes TensorBoard's files. Raises UsageError where it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UsageError("tensorboard needs the package tensorboardX: pip install 'foreplan[track]'") from error
    return SummaryWriter
