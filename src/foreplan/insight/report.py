"""`report.html` of one run: how it learned, what it lost, what its policy looks like and what its model imagines.

It is made from the run directory's files alone: nothing is run anew, and it can be made while the run goes on.
"""

from pathlib import Path

import numpy as np

from foreplan.insight import page, plots
from foreplan.insight.history import History
from foreplan.insight.model_report import model_report


def report(out: Path) -> Path:
    """Write `out/report.html` and the pictures in `out/plots`; returns the report's path."""
    history = History.read(out)
    name, env = history.config["name"], history.env
    parts = [page.note(summary(history)), *curves(history), *film(out)]
    config = history.config
    parts.append(
        page.section(
            "Configuration",
            page.settings("run", config["run"], is_open=True),
            page.settings("agent", config["agent"]),
            page.settings("hardware", config["hardware"], is_open=True),
            page.settings("versions", config["versions"]),
        )
    )
    path = out / "report.html"
    path.write_text(page.page(f"{name} on {env}", *parts))
    return path


def summary(history: History) -> str:
    if not history.metrics:
        return "Nothing has been logged yet."
    last = {name: values[-1] for name, values in history.metrics.items()}
    words = [
        f"{last['env_steps']:,.0f} environment steps, {last['decisions']:,.0f} decisions,",
        f"{last['updates']:,.0f} updates ({last['utd']:.3g} a decision)",
        f"in {last['wall_s'] / 60:.1f} min, {last['compile_s']:.0f} s of them compiling.",
    ]
    if history.evaluations:
        returns = history.evaluations[-1]["returns"]
        words.append(
            f"Last evaluation: return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes."
        )
    return " ".join(words)


def curves(history: History) -> list[str]:
    if not history.metrics:
        return []
    folder = history.out / "plots"
    parts = []
    if history.progress == "env_steps":
        plots.learning_curve(folder / "learning_curve.png", history)
        parts.append(
            page.section("Learning curve", page.image(folder / "learning_curve.png", "return by environment steps"))
        )
    if history.losses:
        plots.losses(folder / "losses.png", history)
        parts.append(page.section("What the agent measured", page.image(folder / "losses.png", "losses")))
    return parts


def film(out: Path) -> list[str]:
    """The newest film of the run, and what the model imagined of that episode."""
    videos, arrays = sorted((out / "videos").glob("step-*.mp4")), sorted((out / "videos").glob("step-*.npz"))
    seen = page.video(videos[-1]) if videos else page.note("No video: the environment could not be drawn here.")
    parts = [page.section("The policy", seen)]
    if arrays:
        with np.load(arrays[-1], allow_pickle=False) as episode:
            if "imagined_reward" in episode:
                path = out / "plots" / "imagination.png"
                plots.imagination(path, dict(episode), int(episode["imagined_every"]))
                parts.append(page.section("Imagined and real", page.image(path, "imagined and real rewards")))
            parts += model_report(out, dict(episode))
    return parts
