"""MBPO's environment steps a second at a UTD ratio of 20, and what its rollouts cost of a step.

    python benchmarks/mbpo_speed.py [--json]

A cart-pole, 7 members of 4 layers of 200, batch 256, 400 rollouts of one step for each decision, a fit every 250: as
the authors have it. A run of 2,000 steps, 1,000 of them at random; the rate is that of its second half, fits of the
model included. mbrl-lib makes 2.7 to 3.8 steps a second at this ratio on its own cart-pole (two cores).
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import jax

from foreplan.agents.mbpo import MBPO, Rollouts
from foreplan.envs import names
from foreplan.run import checkpoint
from foreplan.run.loop import train
from foreplan.run.settings import Settings
from foreplan.run.state import unpack

AGENT = MBPO(rollouts=Rollouts(number=400, capacity=400_000), utd=20.0)
SETTINGS = Settings(
    env="jax/cartpole-pets", steps=2000, log_every=100, eval_every=4000, eval_episodes=1, save_every=2000
)


def steps_a_second(out: Path) -> float:
    """In the second half of a new run."""
    train(AGENT, SETTINGS, out, name="mbpo")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    wall = {line["env_steps"]: line["wall_s"] - line["compile_s"] for line in lines}
    begin, end = SETTINGS.steps // 2 + SETTINGS.log_every, SETTINGS.steps  # after what the random steps are owed
    return (end - begin) / (wall[end] - wall[begin])


def rollouts_seconds(out: Path, repeats: int = 9) -> float:
    """What the rollouts of one decision take, after compilation."""
    with closing(names.make(SETTINGS.env)) as env:
        parts = checkpoint.load(checkpoint.newest_whole(out / checkpoint.FOLDER, print))
        state = unpack(parts, AGENT, env, SETTINGS)
    times = []
    for repeat in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(AGENT.branch(state.learner, state.replay, jax.random.key(repeat)))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:]) / AGENT.rollouts.every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rate = steps_a_second(Path(folder) / "run")
        rollouts = rollouts_seconds(Path(folder) / "run")
    found = {"steps_per_s": rate, "rollouts_ms": 1e3 * rollouts, "rollouts_share": rollouts * rate}
    if options.json:
        print(json.dumps(found))
        return
    print(f"{rate:.1f} environment steps a second")
    print(f"the rollouts of a step: {1e3 * rollouts:.2f} ms, {rollouts * rate:.1%} of its time")


if __name__ == "__main__":
    main()
