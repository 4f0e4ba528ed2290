"""`report.html` of planned episodes: what was planned and foretold, beside what was done and what came."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.insight import page
from foreplan.insight.plots import COLOURS, canvas

PANELS = 6  # at most, of observations; those that move most


def report(out: Path, name: str) -> Path:
    """Write `out/report.html` and the pictures in `out/plots`, from the files of `run.planning.plan_episodes`."""
    config, result = (json.loads((out / file).read_text()) for file in ("config.json", "result.json"))
    with np.load(out / "episodes" / "episode-0.npz", allow_pickle=False) as arrays:
        episode = dict(arrays)
    plots = {
        "Rewards, foretold and earned": out / "plots" / "rewards.png",
        "Actions, planned and done": out / "plots" / "actions.png",
    }
    rewards, actions = plots.values()
    draw(rewards, {"reward of a decision": (episode["reward"], episode["foretold_reward"])}, episode)
    draw(actions, columns(episode["action"], episode["planned_action"], "action[{}]".format), episode)
    if "foretold_obs" in episode:
        names = dict(enumerate(config["obs"]))
        seen = columns(
            episode["obs"][1:], episode["foretold_obs"], lambda i: names.get(i, f"obs[{i}]"), moving(episode["obs"])
        )
        plots["Observations, foretold and seen"] = out / "plots" / "observations.png"
        draw(plots["Observations, foretold and seen"], seen, episode)
    film = out / "videos" / "episode-0.mp4"
    parts = [
        page.note(summary(config, result)),
        *([page.section("The first episode", page.video(film))] if film.is_file() else []),
        *(page.section(title, page.image(path, title)) for title, path in plots.items()),
        page.section(
            "Configuration", *(page.settings(kind, config[kind], is_open=kind == "planner") for kind in KINDS)
        ),
    ]
    path = out / "report.html"
    path.write_text(page.page(f"{name} on {config['run']['env']}", *parts))
    return path


KINDS = ("planner", "run", "hardware", "versions")


def summary(config: dict[str, Any], result: dict[str, Any]) -> str:
    returns = ", ".join(f"{value:.1f}" for value in result["returns"])
    model = config["run"]["model"]
    where = "the environment itself, rolled back" if model == "sim" else f"the model that {model} has learned"
    parts = list(config.get("parts", {}))
    if parts:
        where = ("learned" if "dynamics" in parts else f"{where}, with learned") + f" {', '.join(parts)}"
    pace = sum(result["lengths"]) / result["seconds"]
    spent = f"{result['env_steps']:,} environment steps in {result['seconds']:.0f} s, compilation included"
    return f"Planned in {where}. Returns {returns}; {spent}, {pace:.1f} decisions/s."


def moving(obs: np.ndarray) -> list[int]:
    """The entries of obs [time, obs] that move most, in their own order."""
    return sorted(np.argsort(-np.std(obs, axis=0), kind="stable")[:PANELS].tolist())


def columns(done: np.ndarray, planned: np.ndarray, name: Any, chosen: Any = None) -> dict[str, Any]:
    """{name: (done [time], planned [plan, horizon])} of single numbers of arrays [..., number]."""
    picked = range(min(PANELS, done.shape[-1])) if chosen is None else chosen
    return {name(i): (done[:, i], planned[..., i]) for i in picked}


def draw(path: Path, series: dict[str, tuple[np.ndarray, np.ndarray]], episode: dict[str, np.ndarray]) -> None:
    """One panel a series: what came, and over it each plan that was kept, from where it was made."""
    with canvas(path, 9.0, 0.8 + 1.7 * len(series)) as figure:
        panels = figure.subplots(len(series), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (name, (done, planned)) in zip(panels, series.items(), strict=True):
            axes.plot(done, color="#333333", lw=1.3, label="what came")
            for number, (start, plan) in enumerate(zip(episode["planned_at"], planned, strict=True)):
                label = "what was planned" if number == 0 else None
                axes.plot(start + np.arange(len(plan)), plan, color=COLOURS[1], lw=1.0, alpha=0.8, label=label)
                axes.plot(start, plan[0], ".", color=COLOURS[1], ms=4)
            axes.set_ylabel(name)
            axes.set_xlim(0, len(episode["reward"]))
        panels[0].legend(loc="upper right")
        panels[-1].set_xlabel("decisions of the first episode")
