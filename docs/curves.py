"""The learning curves of the documentation, drawn from `results/`.

python docs/curves.py
"""

from pathlib import Path
from typing import NamedTuple

from foreplan.insight.compare import curve, curves
from foreplan.insight.history import History
from foreplan.insight.plots import COLOURS, canvas

ROOT = Path(__file__).parents[1]


class Panel(NamedTuple):
    """One task: name -> runs, a glob in `results/` each; and a return to look for, by its name."""

    title: str
    runs: dict[str, str]
    aim: tuple[str, float] | None = None


FIGURES = {
    "tdmpc2-curves": tuple(
        Panel(
            task,
            {
                "nano": f"tdmpc2/{task}-scaled-every-*s3?",
                "plans valued at their end": f"tdmpc2/{task}-scaled-averaged-bfloat16-s3?",
                "and in symlog space": f"tdmpc2/{task}-s[234]",
            },
            aim,
        )
        for task, aim in (
            ("cartpole-swingup", ("TD-MPC2, 5M, GPU, 100k", 839.0)),
            ("walker-walk", ("TD-MPC2, 5M, GPU, 100k", 962.0)),
            ("cheetah-run", ("TD-MPC2, 5M, GPU, 100k", 519.0)),
            ("hopper", None),
        )
    ),
    "mbpo-curves": (
        Panel(
            "InvertedPendulum-v5", {"mbpo, size small": "mbpo/inverted-pendulum-small-s?"}, ("the most there is", 1000)
        ),
        Panel(
            "HalfCheetah-v5",
            {"mbpo": "mbpo/halfcheetah-categorical-bfloat16-s??", "sac, UTD 1": "sac/halfcheetah-s12"},
        ),
        Panel(
            "Hopper-v5",
            {
                "mbpo": "mbpo/hopper-categorical-bfloat16-s??",
                "frugal": "sac/hopper-categorical-averaged-bfloat16-s??",
            },
            ("asked for at 50k", 2600),
        ),
    ),
    "sac-curves": tuple(
        Panel(
            title,
            {"frugal": f"sac/{task}-categorical-averaged-bfloat16-s??", "simba": f"sac/{task}-frugal{first}-s1[12]"},
            ("SimbaV2, UTD 8, 100k", published),
        )
        for title, task, first, published in (
            ("Hopper-v5", "hopper", "-random1000-bfloat16", 2927.0),
            ("HalfCheetah-v5", "halfcheetah", "", 7505.0),
            ("walker-walk", "walker-walk", "", 959.0),
            ("cheetah-run", "cheetah-run", "", 602.0),
        )
    ),
}

# One task, one thread, bfloat16, two runs side by side: what a step of each agent gives, and what it costs.
BESIDE = {
    "tdmpc2, nano": "tdmpc2/walker-walk-scaled-every-bfloat16-s3?",
    "tdmpc2, values in symlog space": "tdmpc2/walker-walk-min-bfloat16-s2?",
    "sac, frugal, UTD 2": "sac/walker-walk-categorical-averaged-bfloat16-s??",
    "mbpo": "mbpo/walker-walk-utd10-categorical-bfloat16-s35",
}


def read(pattern: str) -> list[History]:
    return [History.read(path) for path in sorted((ROOT / "results").glob(pattern))]


def draw(name: str, panels: tuple[Panel, ...]) -> None:
    with canvas(ROOT / "docs" / "assets" / f"{name}.png", 3.0 * len(panels), 3.2) as figure:
        for panel, axes in zip(panels, figure.subplots(1, len(panels)), strict=True):
            for colour, (label, pattern) in zip(COLOURS, panel.runs.items(), strict=False):
                runs = read(pattern)
                if not runs:
                    continue
                plural = "s" if len(runs) > 1 else ""
                curve(axes, runs, f"{label} ({len(runs)} run{plural})", {"color": colour, "ls": "-"}, unit=1000.0)
            if panel.aim:
                axes.axhline(panel.aim[1], color="#5c5c5c", ls=":", lw=1.2, label=panel.aim[0])
            axes.set(title=panel.title, xlabel="environment steps / 1000", ylim=(min(0, axes.get_ylim()[0]), None))
            axes.legend(fontsize=7, loc="best")
        figure.axes[0].set_ylabel("return of an episode, evaluation")


if __name__ == "__main__":
    for name, panels in FIGURES.items():
        draw(name, panels)
    curves(ROOT / "docs" / "assets" / "agents-beside.png", {label: read(pattern) for label, pattern in BESIDE.items()})
