"""Planning throughput, reward included, against the raw physics rate of `mujoco.batch`, in the same run.

    taskset -c 0,1 python benchmarks/sim_planning.py

Both roll the same controls out, 256 candidates of 50 environment steps, from the same state. "raw" is MuJoCo alone;
"planning" is the simulator's `rollout`: rescaled actions, recorded quantities, rewards, discounts. The two are timed
in turns, and the best of each counts: what disturbs a machine only ever makes it slower.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np
from mujoco import batch

from foreplan.envs import names as envs
from foreplan.sims import names as sims
from foreplan.sims.mujoco import MujocoSimulator

TASKS = ("dmc/cartpole-swingup", "dmc/walker-walk", "dmc/humanoid-walk")


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def measure(name: str, candidates: int, steps: int, threads: int, turns: int) -> dict:
    plant, simulator = envs.build(name, 1), sims.make(name, 1, threads=threads)
    assert isinstance(simulator, MujocoSimulator)
    plant.reset(0)
    saved = plant.snapshot()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (candidates, steps, plant.spec.action_dim)).astype(np.float32)
    substeps = simulator.mechanism.substeps
    held = np.repeat(actions.astype(np.float64), substeps, axis=1)  # the suite's controls lie in [-1, 1] themselves
    engine = batch.Batch(simulator.model, candidates, threads)
    out: dict = {}

    def raw() -> None:
        engine.state[:] = saved["state"]["physics"]["state"]
        out.update(engine.rollout(steps * substeps, held, record=("qpos",), out=out))

    def planning() -> None:
        simulator.rollout(saved, actions)

    for function in (raw, planning):
        function()
    times = np.array([[seconds(raw), seconds(planning)] for _ in range(turns)])
    rates = candidates * steps * substeps / times.min(axis=0)
    ratios = times[:, 0] / times[:, 1]
    return {
        "task": name,
        "raw_steps_per_s": round(rates[0]),
        "planning_steps_per_s": round(rates[1]),
        "ratio_of_best": round(rates[1] / rates[0], 3),
        "median_ratio": round(float(np.median(ratios)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    for name in TASKS:
        result = measure(name, options.candidates, options.steps, options.threads, options.turns)
        print(json.dumps(result | {"threads": options.threads}), flush=True)


if __name__ == "__main__":
    main()
