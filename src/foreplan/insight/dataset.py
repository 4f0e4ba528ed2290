"""What a data set holds: shapes, ranges, returns, and what is broken in it."""

from pathlib import Path
from typing import Any

import numpy as np

from foreplan.data.dataset import Dataset, faults
from foreplan.insight.plots import COLOURS, canvas


def summary(data: Dataset) -> dict[str, Any]:
    """{"lines": to print, "ok": whether nothing is broken, and the same in numbers}."""
    spans = [steps for _, steps in data.episodes()]
    lengths, returns, found = [span.stop - span.start for span in spans], data.returns, faults(data)
    ended = data.terminated | data.truncated
    open_ends = sum(not ended[span.stop - 1] for span in spans)
    lines = [
        f"environment {data.about.env or 'unknown'}, {'discrete' if data.about.discrete else 'continuous'} actions"
    ]
    lines.append(f"{len(data):,} steps, {len(spans)} episodes, {data.labelled.sum():,} labels")
    for name in ("obs", "action", "reward"):
        array = data.arrays[name]
        bad = int(np.sum(~np.isfinite(array)))
        span = f"[{np.nanmin(array):.4g}, {np.nanmax(array):.4g}]" if array.size and bad < array.size else "nothing"
        lines.append(f"{name:<8}{array.dtype}{list(array.shape)} in {span}, {bad} not finite")
    if spans:
        lines.append(f"returns {returns.mean():.2f} on average, {returns.min():.2f} to {returns.max():.2f}")
        lines.append(f"lengths {np.mean(lengths):.1f} on average, {min(lengths)} to {max(lengths)}")
        lines.append(f"{data.terminated.sum()} terminated, {data.truncated.sum()} truncated, {open_ends} left open")
    for i, source in enumerate(data.about.sources):
        lines.append(
            f"labels by {source.who}: {np.sum(data.source == i):,}" + f" ({source.policy})" * bool(source.policy)
        )
    lines += [f"BROKEN  {fault}" for fault in found] or ["nothing is broken"]
    return {
        "lines": lines,
        "ok": not found,
        "steps": len(data),
        "episodes": len(spans),
        "labels": int(data.labelled.sum()),
        "returns": returns.tolist(),
        "faults": [str(fault) for fault in found],
    }


def draw(data: Dataset, path: Path) -> None:
    """The return of each episode in order, and how they are distributed."""
    returns = data.returns
    with canvas(path, 7.5, 3.2) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
        left.plot(np.arange(len(returns)), returns, ".", color=COLOURS[0])
        left.axhline(float(np.nanmean(returns)), color=COLOURS[1], lw=1, label=f"mean {np.nanmean(returns):.1f}")
        left.set(xlabel="episode", ylabel="return of an episode", xlim=(-0.5, len(returns) - 0.5))
        left.legend(loc="best")
        finite = returns[np.isfinite(returns)]
        right.hist(finite, bins=min(20, max(1, len(finite))), orientation="horizontal", color=COLOURS[0])
        right.set_xlabel("episodes")
