"""`diagnosis.html` and `diagnosis.json`: where a run's return is lost, readable in a minute."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.insight import page
from foreplan.insight.attribution import ALONE, RUN, Attribution, alarms, attribute, judged, verdict
from foreplan.insight.plots import COLOURS, canvas

POINTS = 400  # states that are drawn
FILM = Path("videos", "imagined.mp4")  # where it is written before the page
UNIT = "return of the decisions that count"
GREY, RED, GREEN = "#b5b5b5", COLOURS[1], COLOURS[2]


def report(out: Path, title: str, settings: Mapping[str, Any], measured: Any) -> dict[str, Any]:
    """Write both files, and the pictures in `out/plots`, from `run.diagnose.Measured`; returns what is in the JSON. A
    video in `out/videos/imagined.mp4` gets its place on the page."""
    found, numbers = attribute(measured.returns), judged(measured.foretold)
    document = {
        "settings": dict(settings),
        "returns": measured.returns,
        "seconds": measured.seconds,
        **found.record(),
        "verdict": verdict(found),
        "alarms": alarms(numbers),
        "notes": measured.notes,
        "foretold": numbers,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "diagnosis.json").write_text(json.dumps(document, indent=2) + "\n")
    parts = [f"<p><strong>{escape(document['verdict'])}</strong></p>"]
    parts += [f"<p><strong>Alarm.</strong> {escape(alarm)}</p>" for alarm in document["alarms"]]
    picture = out / "plots" / "waterfall.png"
    waterfall(picture, found)
    parts += [page.image(picture, "from the run's return to the oracle's"), table(found)]
    parts += [page.note(note) for note in measured.notes]
    if (film := out / FILM).is_file():
        said = "Left: what happened. Right: the moment of the episode that is nearest to what the model foretold"
        ahead = page.note(f"{said}, up to {len(measured.foretold['prediction']['error'])} decisions ahead.")
        parts.append(page.section("Imagined and real, on film", page.video(film), ahead))
    parts += sections(out / "plots", measured.foretold, numbers)
    parts.append(page.section("Settings", page.settings("what was looked at", settings, is_open=True)))
    (out / "diagnosis.html").write_text(page.page(title, *parts))
    return document


def table(found: Attribution) -> str:
    header = ["exchanged for the truth, one after the other", "return", "95 % interval", "lost to it", "95 % interval"]
    rows = []
    for name, amount in found.stages.items():
        lost = found.losses.get(name)
        said = {ALONE: "policy alone: nothing is looked ahead", RUN: "nothing: the run as it is"}.get(name, name)
        rows.append([said, amount.mean, _interval(amount), "" if lost is None else lost.mean, _interval(lost)])
    return page.table(rows, header)


def _interval(amount: Any) -> str:
    return "" if amount is None or amount.low is None else f"{amount.low:.4g} to {amount.high:.4g}"


def sections(plots: Path, foretold: Mapping[str, Mapping[str, np.ndarray]], numbers: Mapping[str, Any]) -> list[str]:
    """What the model foretold, each beside what came."""
    parts = []
    if "prediction" in foretold:
        path = plots / "prediction.png"
        prediction(path, foretold["prediction"])
        parts.append(page.section("Imagined and real", page.image(path, "prediction error, imagined and real rewards")))
    if "reward" in numbers:
        rows = [list(group.values()) for group in numbers["reward"]["by_magnitude"]]
        header = ["transitions", "true reward, mean", "bias of the foretold", "root mean square error"]
        parts.append(page.section("Reward, by its magnitude", page.table(rows, header)))
    if "value" in numbers:
        path = plots / "value.png"
        value(path, foretold["value"])
        rows = [[name, *kind.values()] for name, kind in numbers["value"].items()]
        header = ["states of", "number", "bias", "true value, mean", "slope", "correlation"]
        note = page.note("Bias: foretold less what came, in discounted return; slope and correlation are 1 if right.")
        picture = page.image(path, "value against return to come")
        parts.append(page.section("Value, against the return that came", picture, page.table(rows, header), note))
    if "plans" in numbers:
        plans = numbers["plans"]
        names = {
            "imagined": "the model promises of its plan",
            "policy": "the model promises of its policy",
            "true": "what came, the run acting",
        }
        rows = [[said, plans[name]] for name, said in names.items() if np.isfinite(plans[name])]
        parts.append(page.section("Planner and policy", page.table(rows, ["in the same states", "discounted return"])))
    return parts


# ---------------------------------------------------------------------- pictures
def waterfall(path: Path, found: Attribution) -> None:
    """From the policy alone to the run, and from there, part by part, to the oracle."""
    whole: dict[str, tuple[float, str]] = {}  # name: level, colour
    steps: dict[str, tuple[float, float, str]] = {}  # name: from, to, colour
    level = found.stages[RUN].mean
    if found.planning is not None:
        alone = found.stages[ALONE].mean
        whole["policy\nalone"] = alone, GREY
        steps["planning\nadds"] = alone, level, GREEN if level > alone else RED
    whole["run"] = level, COLOURS[0]
    for part, loss in found.losses.items():
        steps[f"lost to\n{part}"] = level, level + loss.mean, RED if loss.mean > 0.0 else GREY
        level += loss.mean
    if found.losses:
        whole["oracle"] = level, GREEN
    order: list[str] = [name for name in ("policy\nalone", "planning\nadds", "run") if name in whole | steps]
    order += [name for name in (*steps, *whole) if name not in order]
    levels = [at for at, _ in whole.values()] + [at for step in steps.values() for at in step[:2]]
    low, high = min(levels), max(levels)
    floor = low - (high - low) if 0.0 < high - low < 0.4 * low else 0.0  # else small losses would not be seen
    with canvas(path, 9.0, 3.8) as figure:
        axes = figure.subplots()
        for x, name in enumerate(order):
            begin, end, colour = steps[name] if name in steps else (floor, *whole[name])
            said = f"{end - begin:+.3g}" if name in steps else f"{end:.4g}"
            axes.bar(x, end - begin, bottom=begin, color=colour, width=0.6)
            axes.annotate(said, (x, max(begin, end)), (0, 3), textcoords="offset points", ha="center", fontsize=9)
            if x + 1 < len(order):
                axes.plot([x + 0.3, x + 0.7], [end, end], color="#888888", lw=0.8)
        axes.set_xticks(range(len(order)), order)
        axes.set_ylabel(UNIT + ("" if floor == 0.0 else "\n(the axis does not begin at 0)"))
        axes.axhline(floor, color="#333333", lw=0.8)
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.15)
        if floor:
            axes.set_ylim(bottom=floor)


def prediction(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    error, still = arrays["error"], arrays["still"]
    ahead = np.arange(1, len(error) + 1)
    with canvas(path, 10.0, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(ahead, error, color=COLOURS[1], label="the model")
        left.plot(ahead, still, color="#888888", ls="--", label="had nothing changed")
        left.set_xlabel("decisions ahead, without looking up")
        left.set_ylabel("error, in standard deviations")
        left.set_ylim(bottom=0.0)
        left.legend(loc="best")
        for start, (real, imagined) in enumerate(zip(arrays["reward"][:8], arrays["foretold"][:8], strict=True)):
            at = start * len(error) + np.arange(len(error))
            right.plot(at, real, color="#333333", lw=1.5, label="what happened" if start == 0 else None)
            right.plot(at, imagined, color=COLOURS[1], lw=1.5, label="what the model imagined" if start == 0 else None)
        right.set_xlabel("decisions, in stretches")
        right.set_ylabel("reward of a decision")
        right.legend(loc="best")


def value(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with canvas(path, 5.5, 4.2) as figure:
        axes = figure.subplots()
        for number, name in enumerate(name for name in ("run", "policy") if f"true_{name}" in arrays):
            true, foretold = arrays[f"true_{name}"], arrays[f"foretold_{name}"]
            some = np.linspace(0, len(true) - 1, min(POINTS, len(true))).astype(int)
            style: dict[str, Any] = {"ms": 4, "alpha": 0.6, "color": COLOURS[number], "label": f"states of the {name}"}
            axes.plot(true[some], foretold[some], ".", **style)
        axes.axline((0.0, 0.0), slope=1.0, color="#333333", lw=1, ls=":")
        axes.set_xlabel("discounted return that came")
        axes.set_ylabel("value foretold")
        axes.legend(loc="best")
