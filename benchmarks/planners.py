"""Every planner on every task with equal means: candidates, rounds, horizon, and physics as coarse.

    python benchmarks/planners.py --out planners.jsonl

One line of JSON for a planner on a task: returns by seed, rollouts and seconds an episode. What has proved good for a
task (`planners/named.py`) gives its horizon, action repeat and reward to plan for; returns are in the task's own.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foreplan import presets
from foreplan.planners.cem import CEM
from foreplan.planners.icem import ICEM
from foreplan.planners.mppi import MPPI
from foreplan.planners.predictive import predictive_sampling
from foreplan.planners.random_shooting import RandomShooting
from foreplan.planners.splines import Splined
from foreplan.run.planning import plan_episodes, rollouts
from foreplan.run.settings import Planning

SAMPLES, ROUNDS = 64, 3
COARSE = {  # physics steps, so many of them in one
    "dmc/cartpole-swingup": 4,
    "dmc/reacher-easy": 2,
    "dmc/walker-walk": 5,
    "dmc/cheetah-run": 2,
    "dmc/finger-spin": 1,
    "dmc/hopper-stand": 4,
    "dmc/acrobot-swingup": 2,
}


def planners(horizon: int) -> dict[str, Any]:
    """All that go by candidates, by name."""
    equal: dict[str, Any] = {"num_samples": SAMPLES, "iterations": ROUNDS}
    knots = min(8, horizon)
    plain = RandomShooting(horizon=horizon, num_samples=SAMPLES * ROUNDS)
    search = ICEM(horizon=horizon, exponent=1.0, decay=1.0, std=0.8, warm_std=0.3, **equal)
    return {
        "random-shooting": plain,
        "cem": CEM(horizon=horizon, num_elites=10, **equal),
        "mppi": MPPI(horizon=horizon, num_proposals=0, num_elites=10, max_std=0.8, **equal),
        "predictive-sampling": predictive_sampling(horizon, knots, std=0.4, **equal),
        "icem": search,
        "icem-spline": Splined(replace(search, horizon=knots, exponent=0.0), horizon),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(COARSE))
    parser.add_argument("--planners", nargs="+", default=list(planners(2)))
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("planners.jsonl"))
    options = parser.parse_args()
    for task in options.tasks:
        tuned = presets.tuned([task])
        settings = Planning(task, episodes=options.episodes, seed=options.seed, coarse=COARSE[task])
        settings = settings.with_defaults(tuned.action_repeat, tuned.reward)
        for name in options.planners:
            planner = planners(tuned.planner.horizon)[name]
            result = plan_episodes(settings, planner)
            row = {
                "task": task,
                "planner": name,
                "coarse": settings.coarse,
                "horizon": planner.horizon,
                "mean": round(result.mean, 1),
                "returns": np.round(result.returns, 1).tolist(),
                "rollouts": (rollouts(planner, result) or 0) // options.episodes,
                "seconds": round(result.seconds / options.episodes, 1),
            }
            print(json.dumps(row), flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
