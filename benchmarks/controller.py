"""The controller under a deadline against the same planner unhurried, on dm_control tasks.

    python benchmarks/controller.py dmc/cartpole-swingup --decisions 10000 --out comparison

"unhurried" plans all rounds for every decision while the plant waits. "synchronous" has `deadline_ms` by the real
clock, and its plans take effect one decision later. "threaded" plans beside a plant that is stepped in real time.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foreplan import Controller, ThreadedController, presets
from foreplan.envs import names as envs
from foreplan.insight.timing import report
from foreplan.run.settings import encode
from foreplan.sims import names as sims


def episode(plant: Any, act: Any, seed: int, period: float = 0.0, most: int = 10**9) -> tuple[float, int]:
    """(return, decisions) of one episode; with a period, each decision on its tick of the monotonic clock."""
    plant.reset(seed)
    total, decisions, ended = 0.0, 0, False
    tick = time.monotonic()
    while not ended and decisions < most:
        _, reward, terminated, truncated = plant.step(act(plant.snapshot()))
        total, decisions, ended = total + reward, decisions + 1, terminated or truncated
        tick += period
        time.sleep(max(0.0, tick - time.monotonic()))
    return total, decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=None, help="of an action; None: proved for the task")
    parser.add_argument("--deadline-ms", type=float, default=20.0)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--horizon", type=int, default=None, help="None: what has proved good for the task")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--coarse", type=int, default=1, help="plan in physics steps that are so many times as long")
    parser.add_argument("--threads", type=int, default=None, help="of the simulator; None: all processors")
    parser.add_argument("--modes", nargs="+", default=["unhurried", "synchronous", "threaded"])
    parser.add_argument("--episodes", type=int, default=2, help="of the unhurried planner and of the threaded mode")
    parser.add_argument("--out", type=Path, default=Path("controller"))
    options = parser.parse_args()
    _, proved, proved_repeat, _ = presets.tuned([options.env])
    repeat = options.repeat or proved_repeat or 1
    planner = replace(
        proved,
        horizon=options.horizon or proved.horizon,
        num_samples=options.samples,
        num_elites=max(2, options.samples // 4),
        iterations=options.iterations,
        decay=1.0,
    )
    plant = envs.build(options.env, repeat)
    simulator = sims.make(options.env, repeat, threads=options.threads, coarse=options.coarse)
    period = repeat * plant.adapter.env.control_timestep()  # type: ignore[attr-defined]
    for mode in options.modes:
        deadline = 1e6 if mode == "unhurried" else options.deadline_ms
        controller = Controller(simulator, planner, deadline, latency=1 if mode == "synchronous" else 0)
        plant.reset(0)
        controller.warm(plant.snapshot())
        returns, decisions, seed = [], 0, 0
        wanted = options.decisions if mode == "synchronous" else options.episodes * (plant.spec.episode_length or 1000)
        while decisions < wanted:
            controller.begin()
            if mode == "threaded":
                with ThreadedController(controller, period * 1e3) as threaded:
                    value, count = episode(plant, threaded.act, seed, period)
            else:
                value, count = episode(plant, controller.act, seed)
            returns.append(value)
            decisions, seed = decisions + count, seed + 1
        said = {
            "env": options.env,
            "mode": mode,
            "action_repeat": repeat,
            "coarse": options.coarse,
            "planner": encode(planner),
            "returns": np.round(returns, 1).tolist(),
        }
        print(json.dumps(said | {"mean": float(np.mean(returns))} | controller.record.summary()), flush=True)
        report(options.out / mode, f"{mode} control of {options.env}", controller.record)


if __name__ == "__main__":
    main()
