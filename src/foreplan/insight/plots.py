"""The pictures of a report. Every axis names its unit; environment steps and decisions are never mixed up."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foreplan.insight.history import History

COLOURS = ("#1f5fa8", "#d1622b", "#3a8f5c", "#8a4fa3", "#b08a1e", "#4a9bb5", "#a83250", "#5c5c5c")
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "font.size": 10,
    "legend.frameon": False,
    "axes.titlesize": 10,
    "axes.formatter.limits": (-4, 5),
    "savefig.dpi": 130,
    "figure.constrained_layout.use": True,
}


@contextmanager
def canvas(path: Path, width: float = 7.5, height: float = 4.0) -> Iterator[Figure]:
    """A figure, in inches, that is written to `path` in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure((width, height))
        yield figure
        figure.savefig(path)


def steps_axis(axes: Axes, history: History) -> None:
    """Environment steps below; decisions above, where they are not the same."""
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    repeat = history.steps_per_decision
    if repeat != 1:
        functions: Any = (lambda x: x / repeat, lambda x: x * repeat)
        above = axes.secondary_xaxis("top", functions=functions)
        above.set_xlabel("decisions")
        above.xaxis.set_major_formatter("{x:,.0f}")


def learning_curve(path: Path, history: History) -> None:
    with canvas(path) as figure:
        axes = figure.subplots()
        training = history.metrics.get("return")
        if training is not None:
            axes.plot(history.metrics["env_steps"], training, color="#b5b5b5", lw=1, label="training, exploring")
        if history.evaluations:
            steps, all_returns = history.evaluated("env_steps"), [line["returns"] for line in history.evaluations]
            low, high = ([pick(returns) for returns in all_returns] for pick in (min, max))
            axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.15, lw=0, label="worst to best episode")
            axes.plot(steps, history.returns, "o-", color=COLOURS[0], ms=4, label="evaluation, mean")
        axes.set_ylabel("return of an episode")
        axes.legend(loc="best")
        steps_axis(axes, history)


def losses(path: Path, history: History, columns: int = 3) -> None:
    """One small plot for each thing that the agent measured of itself."""
    series = history.losses
    rows = max(1, -(-len(series) // columns))
    with canvas(path, 10.0, 2.1 * rows) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for (
            axes,
            (name, values),
        ) in zip(panels, series.items(), strict=False):
            axes.plot(history.metrics[history.progress], values, color=COLOURS[0], lw=1.2)
            axes.set_title(name)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.locator_params(axis="x", nbins=4)
        for axes in panels[max(0, len(series) - columns) : len(series)]:
            axes.tick_params(labelbottom=True)  # the lowest of each column
        for axes in panels[len(series) :]:
            axes.set_visible(False)
        figure.supxlabel(history.progress.replace("env_", "environment "), fontsize=10)


def imagination(path: Path, film: Mapping[str, np.ndarray], every: int) -> None:
    """Rewards that the model foretold, looking up only every `every` decisions, over the rewards that came."""
    foretold = np.asarray(film["imagined_reward"])
    with canvas(path, 7.5, 3.2) as figure:
        axes = figure.subplots()
        axes.plot(film["reward"], color="#333333", lw=1.5, label="what happened")
        for start in range(0, len(foretold), every):
            segment = foretold[start : start + every]
            label = f"what the model imagined, {every} decisions ahead" if start == 0 else None
            axes.plot(np.arange(start, start + len(segment)), segment, color=COLOURS[1], lw=1.5, label=label)
            axes.plot(start, segment[0], ".", color=COLOURS[1])
        axes.set_xlabel("decisions of one episode")
        axes.set_ylabel("reward of a decision")
        axes.legend(loc="best")


def open_loop(path: Path, error: np.ndarray, coverage: np.ndarray | None, covered: float) -> None:
    """Error of each dimension, and the share of outcomes within the predictive interval, against the steps ahead."""
    with canvas(path, 10.0, 3.6) as figure:
        panels = figure.subplots(1, 1 if coverage is None else 2, squeeze=False)[0]
        ahead = np.arange(1, len(error) + 1)
        for axes, values in zip(panels, [error, coverage], strict=False):
            assert values is not None
            for i, series in enumerate(values.T):
                colour = COLOURS[i % len(COLOURS)]
                label = f"observation {i}" if i < 2 * len(COLOURS) else None
                axes.plot(ahead, series, "-" if i < len(COLOURS) else "--", color=colour, lw=1.4, label=label)
            axes.set_xlabel("decisions ahead, without looking up")
        panels[0].axhline(1.0, color="#333333", lw=1, ls=":")
        panels[0].set_yscale("log")
        panels[0].set_ylabel("error, in standard deviations")
        panels[0].legend(loc="best", fontsize=8)
        if coverage is not None:
            panels[1].axhline(covered, color="#333333", lw=1, ls=":")
            panels[1].set_ylim(0.0, 1.02)
            panels[1].set_ylabel(f"share within the interval of {covered:.0%}")
