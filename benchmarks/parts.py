"""What each part costs: the return of one planner with learned and with true dynamics, reward and value, on the same
episodes. The true value is not known: in its place stands nothing, or a horizon that is many times longer.

    python benchmarks/parts.py jax/pendulum parts --horizon 5 --long 30 --episodes 5
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.envs import gl

gl.configure()  # before MuJoCo is imported
from foreplan.planners.mppi import MPPI  # noqa: E402
from foreplan.run.planning import plan_episodes  # noqa: E402
from foreplan.run.settings import Planning  # noqa: E402


def returns(env: str, parts: dict[str, str], horizon: int, episodes: int, samples: int) -> list[float]:
    planner = MPPI(horizon, samples, num_proposals=0, num_elites=samples // 4, iterations=3, max_std=0.5)
    given: dict[str, Any] = {**parts}
    return plan_episodes(Planning(env, episodes=episodes, **given), planner).returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env")
    parser.add_argument("parts", help="a folder that `foreplan fit` has written")
    parser.add_argument("--horizon", type=int, default=5, help="decisions")
    parser.add_argument("--long", type=int, default=30, help="the horizon that stands for a true value")
    parser.add_argument("--reward", help="the true one, module:function of observations, for learned dynamics")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--samples", type=int, default=64, help="candidates of each of three rounds")
    args = parser.parse_args()
    rows, either = [], ("true", "learned")
    for dynamics, reward, value in itertools.product(either, either, ("none", "learned", "long")):
        learned = {"dynamics": dynamics, "reward": reward, "value": value}
        named = {kind: str(Path(args.parts) / kind) for kind, which in learned.items() if which == "learned"}
        if dynamics == "learned" and reward == "true":
            if args.reward is None:
                continue
            named["reward"] = args.reward
        horizon = args.long if value == "long" else args.horizon
        found = returns(args.env, named, horizon, args.episodes, args.samples)
        rows.append(learned | {"horizon": horizon, "returns": found})
        spread = np.std(found) / np.sqrt(len(found))
        print(f"{dynamics:<9}{reward:<9}{value:<9}{np.mean(found):9.1f} +- {spread:.1f}", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
