"""Several runs side by side: by environment, interquartile means with their intervals, over steps and over time.

Runs are of one kind where agent and settings are the same, seed and environment apart; what differs names the kind.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from foreplan.core.errors import UsageError
from foreplan.insight import page, plots
from foreplan.insight.history import History
from foreplan.insight.stats import summarise

FREE = ("env", "seed", "steps", "log_every", "save_every", "eval_every", "eval_episodes", "keep", "tensorboard")
Groups = dict[str, dict[str, list[History]]]  # environment -> kind -> runs


def compare(directories: Sequence[Path], out: Path) -> Path:
    """Write `out/report.html`; returns its path. Raises UsageError where a directory has no evaluations."""
    histories = [History.read(directory) for directory in directories]
    for history in histories:
        if not history.evaluations:
            raise UsageError(f"{history.out} has no evaluations to compare")
    groups = grouped(histories)
    parts = []
    for number, (env, kinds) in enumerate(groups.items()):
        path = out / "plots" / f"comparison-{number}.png"
        curves(path, kinds)
        parts.append(page.section(env, page.image(path, f"returns on {env}"), final_table(kinds)))
    if len(groups) > 1:
        parts.append(
            page.section("All environments", page.note("Returns as they are, not normalised."), total_table(groups))
        )
    parts.append(
        page.note("Mean returns of evaluations; interquartile mean over runs, band: 95 % stratified bootstrap.")
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page.page("Comparison of runs", *parts))
    return out / "report.html"


def grouped(histories: Sequence[History]) -> Groups:
    groups: Groups = defaultdict(lambda: defaultdict(list))
    for history, kind in zip(histories, kinds_of(histories), strict=True):
        groups[history.env][kind].append(history)
    return groups


def kinds_of(histories: Sequence[History]) -> list[str]:
    """What each run is called: its agent's name, and those settings in which not all runs of that agent agree, but for
    values that most of its configurations have."""
    settings = [settings_of(history) for history in histories]
    different: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    for history, one in zip(histories, settings, strict=True):
        different[history.config["name"]][repr(one)] = one
    kinds = []
    for history, one in zip(histories, settings, strict=True):
        others = different[history.config["name"]].values()
        rare = [
            name for name in sorted(one) if 2 * sum(other.get(name) == one[name] for other in others) <= len(others)
        ]
        kinds.append(" ".join([history.config["name"], *(f"{name.partition('.')[2]}={one[name]}" for name in rare)]))
    return kinds


def settings_of(history: History) -> dict[str, object]:
    """All that was set, by dotted name, seed and environment apart."""
    run = {name: value for name, value in history.config["run"].items() if name not in FREE}
    return page.flat({"agent": history.config["agent"], "run": run})


def finals(runs: Sequence[History]) -> np.ndarray:
    """The return of each run's evaluation at the last step that all of them reached."""
    last = common_steps(runs)[-1:]
    return at_steps(runs, last)[:, 0] if len(last) else np.array([run.returns[-1] for run in runs])


def common_steps(runs: Sequence[History]) -> np.ndarray:
    shared = set.intersection(*(set(run.evaluated("env_steps").tolist()) for run in runs))
    return np.array(sorted(shared))


def at_steps(runs: Sequence[History], steps: np.ndarray) -> np.ndarray:
    """[run, step]: returns at evaluations of these environment steps."""
    rows = []
    for run in runs:
        found = dict(zip(run.evaluated("env_steps").tolist(), run.returns, strict=True))
        rows.append([found[step] for step in steps])
    return np.array(rows)


def at_counter(runs: Sequence[History], name: str, unit: float, points: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """(a counter in `unit`s, returns [run, point]), interpolated between evaluations, where all runs share it."""
    counts = [run.evaluated(name) / unit for run in runs]
    begin, end = max(c[0] for c in counts), min(c[-1] for c in counts)
    grid = np.linspace(begin, end, points if begin <= end else 0)
    return grid, np.array([np.interp(grid, c, run.returns) for c, run in zip(counts, runs, strict=True)])


def curves(path: Path, kinds: dict[str, list[History]]) -> None:
    """Returns over environment steps, over updates and over time."""
    counters = {"updates": ("updates", 1.0), "wall_s": ("minutes of wall clock, compilation included", 60.0)}
    labels = {kind: f"{kind} ({len(runs)} run{'s' if len(runs) > 1 else ''})" for kind, runs in kinds.items()}
    columns = min(3, max(1, 150 // (8 + max(map(len, labels.values())))))  # of the legend; 150 characters fit
    with plots.canvas(path, 12.0, 4.0 + 0.2 * -(-len(kinds) // columns)) as figure:
        by_steps, *others = figure.subplots(1, 3, sharey=True)
        looks = [(colour, line) for line in ("-", "--", ":") for colour in plots.COLOURS]
        for (colour, line), (kind, runs) in zip(cycle(looks), kinds.items(), strict=False):
            look: dict[str, Any] = {"color": colour, "ls": line}
            curve(by_steps, runs, labels[kind], look)
            for axes, (name, (_, unit)) in zip(others, counters.items(), strict=True):
                for run in runs:
                    axes.plot(run.evaluated(name) / unit, run.returns, lw=0.6, alpha=0.5, **look)
                band(axes, *at_counter(runs, name, unit), labels[kind], look)
        by_steps.set_ylabel("return of an episode, evaluation")
        for axes, label in zip(
            (by_steps, *others), ("environment steps", *(x[0] for x in counters.values())), strict=True
        ):
            axes.set_xlabel(label)
            axes.locator_params(axis="x", nbins=5)
        for axes in (by_steps, others[0]):
            axes.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(*by_steps.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def curve(axes: Axes, runs: Sequence[History], label: str, look: dict[str, Any], unit: float = 1.0) -> None:
    """Each run, and all together, over environment steps in `unit`s."""
    for run in runs:
        axes.plot(run.evaluated("env_steps") / unit, run.returns, lw=0.6, alpha=0.5, **look)
    steps = common_steps(runs)
    band(axes, steps / unit, at_steps(runs, steps), label, look)


def band(axes: Axes, x: np.ndarray, returns: np.ndarray, label: str, look: dict[str, Any]) -> None:
    """The interquartile mean over runs, and its interval where there are runs enough to speak of one."""
    middle, low, high = np.array([summarise([column]) for column in returns.T]).reshape(-1, 3).T
    axes.plot(x, middle, lw=2, label=label, **look)
    if len(returns) > 1:
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, lw=0)


def final_table(kinds: dict[str, list[History]]) -> str:
    rows = []
    for kind, runs in kinds.items():
        steps = common_steps(runs)
        reached = f"{steps[-1]:,.0f}" if len(steps) else "each its last"
        minutes = float(np.mean([run.evaluated("wall_s")[-1] / 60 for run in runs]))
        rows.append([kind, len(runs), reached, *scores([finals(runs)]), round(minutes, 1)])
    return page.table(rows, ["", "runs", "environment steps", "IQM return", "95 % interval", "minutes"])


def total_table(groups: Groups) -> str:
    by_kind: dict[str, list[np.ndarray]] = defaultdict(list)
    for kinds in groups.values():
        for kind, runs in kinds.items():
            by_kind[kind].append(finals(runs))
    rows = [[kind, len(tasks), sum(map(len, tasks)), *scores(tasks)] for kind, tasks in by_kind.items()]
    return page.table(rows, ["", "environments", "runs", "IQM return", "95 % interval"])


def scores(tasks: list[np.ndarray]) -> tuple[float, str]:
    middle, low, high = summarise(tasks)
    enough = max(map(len, tasks)) > 1
    return middle, f"{low:.1f} to {high:.1f}" if enough else "one run: none"
