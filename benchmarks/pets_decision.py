"""What a decision of PETS costs, and what it earns: one trained run, planned in with the standard budget (CEM of 350
candidates x 5 rounds, horizon 15, 20 particles), with smaller ones, and with PETS's default, that looks farther ahead.

    foreplan train pets jax/cartpole-pets --steps 2000 --agent.reward foreplan.envs.jax_native:tip_reward \
        --agent.network.members 7 --agent.network.layers 4 --out RUN
    python benchmarks/pets_decision.py RUN --episodes 5 --plot decision.png
"""

import argparse
import json
import statistics
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from foreplan.planners.cem import CEM
from foreplan.planners.icem import ICEM
from foreplan.run.saved import Saved

STANDARD = CEM(horizon=15, num_samples=350, num_elites=35, iterations=5, momentum=0.1, warm_std=0.0)
WARM = replace(STANDARD, num_samples=100, num_elites=10, warm_std=0.5)
CORRELATED = ICEM(horizon=15, num_samples=50, num_elites=10, iterations=3, decay=1.0)
BUDGETS: dict[str, tuple[Any, int]] = {  # (planner, particles)
    "CEM 350 x 5, 20 particles": (STANDARD, 20),
    "CEM 350 x 5, 5 particles": (STANDARD, 5),
    "CEM 100 x 5, warm, 5 particles": (WARM, 5),
    "the default: iCEM 50 x 3, horizon 25": (replace(CORRELATED, horizon=25, exponent=2.0), 5),
    "iCEM 50 x 3, 5 particles": (CORRELATED, 5),
    "iCEM 50 x 2, 5 particles": (replace(CORRELATED, iterations=2), 5),
    "iCEM 30 x 1, 5 particles": (replace(CORRELATED, num_samples=30, iterations=1), 5),
}


def decision_ms(agent: Any, learner: Any, env: Any, repeats: int = 30) -> float:
    """The median of `repeats` decisions in one environment, after compilation."""
    timestep, memory, key, times = env.reset(0), agent.memory(env.spec), jax.random.key(0), []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        action, memory, _ = jax.block_until_ready(agent.act(learner, timestep, memory, key, False))
        times.append(1e3 * (time.perf_counter() - begin))
        env.send(np.asarray(action))
        timestep = env.recv()
    return statistics.median(times[1:])


def measure(saved: Saved, planner: Any, particles: int, episodes: int) -> dict[str, Any]:
    agent: Any = replace(saved.agent, planner=planner, particles=particles)  # type: ignore[type-var]
    with closing(saved.make_env(saved.settings.env, action_repeat=saved.settings.action_repeat)) as env:
        ms = decision_ms(agent, saved.learner(env), env)
    return {"ms": ms, "returns": replace(saved, agent=agent).evaluate(episodes, seed=100).returns}


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, row in rows.items():
        mean, error = np.mean(row["returns"]), np.std(row["returns"]) / np.sqrt(len(row["returns"]))
        axes.errorbar(row["ms"], mean, error, fmt="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="ms a decision", ylabel="return")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    saved, rows = Saved.open(options.run), {}
    for name, budget in BUDGETS.items():
        rows[name] = measure(saved, *budget, options.episodes)
        print(f"{name:36} {rows[name]['ms']:8.1f} ms   return {np.mean(rows[name]['returns']):7.1f}", flush=True)
    print(json.dumps(rows))
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
