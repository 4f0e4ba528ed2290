"""The report of a controller: how long its answers took, how old its plans were, and whose the answers were."""

from pathlib import Path
from typing import Any

import numpy as np

from foreplan.insight import page
from foreplan.insight.plots import COLOURS, canvas


def report(out: Path, title: str, record: Any) -> Path:
    """Write `out/report.html` and its picture, from a `controller.Record`."""
    said, picture = record.summary(), out / "plots" / "timing.png"
    draw(picture, record)
    rows = [(name, *said[f"{name}_ms"].values()) for name in ("latency", "planning")]
    parts = [
        page.note(
            f"{said['decisions']:,} decisions, deadline {said['deadline_ms']:g} ms, missed {said['missed']:,} times."
        ),
        page.section("Times in ms", page.table(rows, ("", *said["latency_ms"]))),
        page.section("Whose answers", page.table(list(said["sources"].items()), ("source", "decisions"))),
        page.section("Latency, plan age, rounds", page.image(picture, "histograms of latency, plan age and rounds")),
    ]
    path = out / "report.html"
    path.write_text(page.page(title, *parts))
    return path


def draw(path: Path, record: Any) -> None:
    """Three histograms; times on a logarithmic axis with the deadline, fallbacks in the colours of their source."""
    with canvas(path, 10.0, 3.2) as figure:
        times, ages, rounds = figure.subplots(1, 3)
        answered, planned = (1e3 * np.maximum(series, 1e-6) for series in (record.latency, record.planning or [1e-6]))
        low, high = min(answered.min(), planned.min()), max(answered.max(), planned.max(), record.deadline * 1e3)
        bins = np.geomspace(0.9 * low, 1.1 * high, 50)
        times.hist(answered, bins, color=COLOURS[0], alpha=0.8, label="answers")
        times.hist(planned, bins, histtype="step", color=COLOURS[1], label="plans")
        times.axvline(record.deadline * 1e3, color="#333333", ls="--", lw=1.0, label="deadline")
        times.set_xscale("log")
        times.set_xlabel("ms")
        times.legend(loc="best")
        sources = [name for name in ("planned", "shifted", "policy", "safe") if name in record.source]
        split = [[age for age, who in zip(record.age, record.source, strict=True) if who == name] for name in sources]
        ages.hist(split, min(50, max(record.age) + 1), stacked=True, color=COLOURS[: len(sources)], label=sources)
        ages.set_xlabel("age of the plan in decisions")
        ages.legend(loc="best")
        rounds.hist(record.rounds, np.arange(-0.5, max(record.rounds, default=0) + 1.5), color=COLOURS[0], rwidth=0.8)
        rounds.set_xlabel("rounds of a plan")
