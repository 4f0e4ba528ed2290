"""Where the return is lost, from the returns of `run.diagnose`'s stages, and what to be warned of."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foreplan.insight.stats import student

ALONE, RUN = "policy alone", "run"


@dataclass(frozen=True)
class Amount:
    """A mean over seeds, with its 95 % interval; None where there is one seed only."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, samples: np.ndarray) -> "Amount":
        """By Student's t: of two or three seeds a bootstrap would show a much too narrow interval."""
        mean = _mean(samples)
        if len(samples) < 2:
            return cls(mean, None, None)
        half = student(len(samples) - 1) * float(np.std(samples, ddof=1)) / len(samples) ** 0.5
        return cls(mean, mean - half, mean + half)

    @property
    def certain(self) -> bool:
        """Whether the interval leaves no doubt that it is above 0."""
        return self.low is not None and self.low > 0.0

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + ("" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]")


@dataclass(frozen=True)
class Attribution:
    """`losses` are by part, in the order of exchange; they sum to `gap`, the oracle's return less the run's. `planning`
    is what looking ahead earns over the policy alone."""

    stages: dict[str, Amount]
    losses: dict[str, Amount]
    gap: Amount
    planning: Amount | None

    @property
    def largest(self) -> str | None:
        """The part to which most is lost; None where nothing is lost to any."""
        lost = {part: loss.mean for part, loss in self.losses.items() if loss.mean > 0.0}
        return max(lost, key=lost.__getitem__) if lost else None

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"largest": self.largest}


def attribute(returns: Mapping[str, list[float]]) -> Attribution:
    """From the returns [seed] of every stage, in the order of exchange; the seeds are common to all."""
    samples = {name: np.asarray(values, np.float64) for name, values in returns.items()}
    path = [name for name in samples if name != ALONE]
    losses = {after: samples[after] - samples[before] for before, after in itertools.pairwise(path)}
    return Attribution(
        stages={name: Amount.of(values) for name, values in samples.items()},
        losses={part: Amount.of(lost) for part, lost in losses.items()},
        gap=Amount.of(samples[path[-1]] - samples[RUN]),
        planning=Amount.of(samples[RUN] - samples[ALONE]) if ALONE in samples else None,
    )


def verdict(found: Attribution) -> str:
    if not found.losses:
        return "Nothing could be exchanged for the truth: the gap is not known."
    run = f"The run earns {found.stages[RUN]}"
    if found.gap.mean <= 0.0 or found.largest is None:
        return f"{run}; with parts that are true it earns no more. The truth may look less far than a learned value."
    gap = f"{run}, the oracle {found.gap} more."
    lost = found.losses[found.largest]
    doubt = "" if lost.certain else " These seeds leave it in doubt: more --episodes would tell."
    return f"{gap} Most is lost to the {found.largest}: {lost}.{doubt}"


# ---------------------------------------------------------------------- what the model foretold
def judged(foretold: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Numbers for each subject of `run.foretold`, as JSON."""
    found: dict[str, Any] = {}
    if "prediction" in foretold:
        error, still = (np.asarray(foretold["prediction"][name]) for name in ("error", "still"))
        found["prediction"] = {"error": error.tolist(), "if_nothing_changed": still.tolist()}
    if "reward" in foretold:
        found["reward"] = {"by_magnitude": by_magnitude(*_pair(foretold["reward"]))}
    for name in ("run", "policy"):
        if f"true_{name}" in foretold.get("value", {}):
            found.setdefault("value", {})[name] = calibration(*_pair(foretold["value"], f"_{name}"))
    if "plans" in foretold:
        found["plans"] = {name: Amount.of(array).mean for name, array in foretold["plans"].items()}
        found["plans"]["over_promised"] = asdict(over_promised(foretold["plans"]))
    return found


def by_magnitude(true: np.ndarray, foretold: np.ndarray, groups: int = 5) -> list[dict[str, Any]]:
    """Bias and root mean square error of the reward, for equally many transitions of low to high reward each."""
    order = np.argsort(true, kind="stable")
    return [
        {
            "number": len(part),
            "true": _mean(true[part]),
            "bias": _mean(foretold[part] - true[part]),
            "rmse": float(np.sqrt(np.mean((foretold[part] - true[part]).astype(np.float64) ** 2))),
        }
        for part in np.array_split(order, min(groups, len(order)))
    ]


def calibration(true: np.ndarray, foretold: np.ndarray) -> dict[str, Any]:
    """Bias, and slope and correlation of what came against what was foretold: 1 and 1 for a value that is right."""
    spread_foretold, spread_true = float(np.std(foretold)), float(np.std(true))
    both = spread_foretold * spread_true
    covariance = float(np.mean((foretold - foretold.mean()) * (true - true.mean())))
    return {
        "number": len(true),
        "bias": _mean(foretold - true),
        "true": _mean(true),
        "slope": covariance / spread_foretold**2 if spread_foretold > 0.0 else 0.0,
        "correlation": covariance / both if both > 0.0 else 0.0,
    }


def over_promised(plans: Mapping[str, np.ndarray]) -> Amount:
    """By how much more the model promises of a plan than comes, in standard deviations of what comes."""
    unit = max(float(np.std(plans["true"])), 0.1 * abs(_mean(plans["true"])), 1e-9)
    return Amount.of((plans["imagined"] - plans["true"]) / unit)


def alarms(found: Mapping[str, Any]) -> list[str]:
    """Of what `judged` gave."""
    said = []
    plans = found.get("plans")
    if plans is not None and plans["over_promised"]["mean"] > 1.0 and (plans["over_promised"]["low"] or 0.0) > 0.0:
        said.append(
            f"The planner exploits the model: its plans promise {plans['imagined']:.4g}, and {plans['true']:.4g} comes."
        )
    prediction = found.get("prediction")
    if prediction is not None and prediction["error"][0] >= prediction["if_nothing_changed"][0]:
        said.append("One step ahead, the model foretells no better than that nothing changes.")
    return said


def _pair(arrays: Mapping[str, np.ndarray], suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    true, foretold = (np.asarray(arrays[name + suffix], np.float64) for name in ("true", "foretold"))
    return true, foretold


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))
