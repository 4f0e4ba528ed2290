"""`report.html` of fitted parts: how each fared on episodes that were held out, and what it was made for and from."""

import json
from pathlib import Path
from typing import Any

from foreplan.insight import page
from foreplan.insight.plots import COLOURS, canvas

UNITS = {
    "dynamics": "squared error, share of the variance",
    "reward": "squared error, share of the variance",
    "continuation": "class-balanced cross-entropy, nats",
    "value": "squared error, share of the variance",
    "policy": "loss",
}


def report(out: Path) -> Path:
    """Write `out/report.html` and the picture in `out/plots`, from the parts' folders alone."""
    parts = [json.loads((out / kind / "state.json").read_text())["part"] for kind in UNITS if (out / kind).is_dir()]
    picture = out / "plots" / "hold_out.png"
    draw(picture, parts)
    sections = [
        page.section("On the episodes that were held out", page.image(picture, "scores by epochs"), table(parts)),
        *([] if all(part["data"]["held_out"] for part in parts) else [page.note(WARNING)]),
        page.section("Parts", *(page.settings(part["kind"], about(part)) for part in parts)),
    ]
    path = out / "report.html"
    names = {part["data"]["name"]: None for part in parts}
    path.write_text(page.page(f"Parts fitted to {', '.join(names)}", *sections))
    return path


WARNING = "Some parts had too few episodes to hold any out: their scores are of what they were fitted to."


def table(parts: list[dict[str, Any]]) -> str:
    rows = [
        [part["kind"], name, value, UNITS[part["kind"]] if "error" in name or "loss" in name else ""]
        for part in parts
        for name, value in part["scores"].items()
    ]
    return page.table(rows, ["part", "score", "value", "unit"])


def about(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("env", "spec", "data", "form", "versions")}


def draw(path: Path, parts: list[dict[str, Any]]) -> None:
    """One panel a part: what its members, or heads, that were still being fitted score on average."""
    with canvas(path, 3.2 * max(2, len(parts)), 3.0) as figure:
        panels = figure.subplots(1, len(parts), squeeze=False)[0]
        for axes, part in zip(panels, parts, strict=True):
            curve = part["curve"]
            axes.plot(range(len(curve)), curve, color=COLOURS[0])
            if min(curve) > 0.0:
                axes.set_yscale("log")
            axes.set_title(part["kind"])
            axes.set_xlabel("epochs")
            axes.set_ylabel(UNITS[part["kind"]])
