"""What a run directory says of its run, read back from its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError

COUNTERS = ("env_steps", "decisions", "updates", "episodes", "utd", "wall_s", "compile_s")
PACE = ("decisions_per_s", "updates_per_s", "share_act", "share_env", "share_learn")
OUTCOMES = ("return", "episode_length")


@dataclass(frozen=True)
class History:
    """`metrics` are the columns of metrics.jsonl, NaN where a line lacks one; `evaluations` the lines of eval.jsonl."""

    out: Path
    config: dict[str, Any]
    metrics: dict[str, np.ndarray]
    evaluations: list[dict[str, Any]]

    @classmethod
    def read(cls, out: Path) -> "History":
        """Raises UsageError where `out` is no run directory."""
        if not (out / "config.json").is_file():
            raise UsageError(f"{out} is not a run directory: it has no config.json")
        lines = _lines(out / "metrics.jsonl")
        names = dict.fromkeys(name for line in lines for name in line)
        metrics = {name: np.array([_number(line.get(name)) for line in lines]) for name in names}
        return cls(out, json.loads((out / "config.json").read_text()), metrics, _lines(out / "eval.jsonl"))

    @property
    def env(self) -> str:
        return self.config["run"]["env"]

    @property
    def progress(self) -> str:
        """The counter that went on: updates, where no step was taken."""
        return "env_steps" if self.metrics["env_steps"].any() else "updates"

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """What the agent measured of itself, by name."""
        return {name: values for name, values in self.metrics.items() if name not in COUNTERS + PACE + OUTCOMES}

    def evaluated(self, name: str) -> np.ndarray:
        """A counter ("env_steps", "decisions", "wall_s") at each evaluation."""
        return np.array([line[name] for line in self.evaluations], np.float64)

    @property
    def returns(self) -> np.ndarray:
        """The mean return of each evaluation."""
        return np.array([np.mean([_number(value) for value in line["returns"]]) for line in self.evaluations])

    @property
    def steps_per_decision(self) -> float:
        steps, decisions = self.metrics["env_steps"], self.metrics["decisions"]
        return float(steps[-1] / decisions[-1])


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file. A last line that was not finished, for the run was killed, is left out."""
    if not path.is_file():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _number(value: int | float | None) -> float:
    return float("nan") if value is None else float(value)
