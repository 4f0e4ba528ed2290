"""How far a learned model of observations can be trusted: what it foretold of the filmed episode, which it has not been
fitted to, without looking up, against what came."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foreplan.insight import page, plots

COVERED = 0.9  # share of outcomes that should lie within the predictive interval


@dataclass(frozen=True)
class OpenLoop:
    """By steps ahead (the first axis, from 1 on) and dimension of the observation."""

    error: np.ndarray  # [horizon, obs]: root mean square, in standard deviations of the episode
    still: np.ndarray  # the same, had one foretold that nothing changes
    coverage: np.ndarray | None  # share within the interval of 90 %; None for a model that gives none

    @property
    def unpredictable(self) -> list[int]:
        """The dimensions of which even the next value is foretold no better than by the last one or the mean."""
        return np.flatnonzero(self.error[0] >= np.minimum(self.still[0], 1.0)).tolist()


def open_loop(film: Mapping[str, np.ndarray]) -> OpenLoop | None:
    """None where the film has no foretold observations, or is too short."""
    if "imagined_obs" not in film:
        return None
    obs, every = film["obs"], int(film["imagined_every"])
    starts = np.arange(0, len(film["imagined_obs"]), every)
    starts = starts[starts + every < len(obs)]  # of the last one the end may not have been seen
    if len(starts) == 0:
        return None
    ahead = starts[:, None] + np.arange(every)[None]  # [start, horizon]
    truth, unit = obs[ahead + 1], np.maximum(obs.std(axis=0), 1e-6)

    def size(wrong: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(wrong**2, axis=0)) / unit

    low, high = film["imagined_low"][ahead], film["imagined_high"][ahead]
    certain = np.array_equal(low, high)
    coverage = None if certain else np.mean((low <= truth) & (truth <= high), axis=0)
    return OpenLoop(size(film["imagined_obs"][ahead] - truth), size(obs[starts][:, None] - truth), coverage)


def model_report(out: Path, film: Mapping[str, np.ndarray]) -> list[str]:
    """The section of the report, with its picture in `out/plots`; nothing for an agent without such a model."""
    found = open_loop(film)
    if found is None:
        return []
    path = out / "plots" / "model.png"
    plots.open_loop(path, found.error, found.coverage, COVERED)
    bad = ", ".join(f"observation {i}" for i in found.unpredictable)
    note = f"One step ahead, no better than by the mean or by the last value: {bad or 'no dimension'}."
    units = "Errors are root mean squares in standard deviations of the episode; 1 is no better than its mean."
    picture = page.image(path, "open-loop error and coverage by steps ahead")
    return [page.section("The model, without looking up", picture, table(found), page.note(f"{note} {units}"))]


def table(found: OpenLoop) -> str:
    """A row for each dimension of the observation."""
    header = ["observation", "error, 1 step", f"{len(found.error)} steps", "if nothing changed", "within 90 % interval"]
    rows = []
    for i, (first, last, still) in enumerate(zip(found.error[0], found.error[-1], found.still[0], strict=True)):
        covered = "no interval" if found.coverage is None else float(np.mean(found.coverage[:, i]))
        rows.append([str(i), float(first), float(last), float(still), covered])
    return page.table(rows, header)
