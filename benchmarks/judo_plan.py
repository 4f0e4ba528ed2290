"""One decision by predictive sampling, MPPI and CEM on a cart-pole, against judo's, in the same run.

    python -m venv peer && peer/bin/pip install judo-rai==0.0.7
    python benchmarks/judo_plan.py --judo peer/bin/python

Both look 25 physics steps of 0.04 s ahead, through splines of four knots, in one round; each has its own cart-pole, of
the same masses, joints and integrator, and no contacts. judo runs in a process of its own, in turns with ours.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HORIZON, TIMESTEP, KNOTS = 25, 0.04, 4
METHODS = ("predictive sampling", "mppi", "cem")
CART_POLE = f"""
<mujoco>
  <option timestep="{TIMESTEP}"><flag contact="disable"/></option>
  <worldbody>
    <body name="cart">
      <joint name="rail" type="slide" axis="1 0 0" damping="10" range="-1.8 1.8" limited="true"/>
      <geom type="box" size=".2 .15 .1" mass="1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size=".045" mass=".1"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="rail" kp="100" ctrlrange="-1.8 1.8" forcerange="-10 10"/></actuator>
</mujoco>
"""


def cart_pole() -> Any:
    """The cart-pole as a dm_control environment."""
    from dm_control import mujoco
    from dm_control.rl import control
    from dm_control.suite import base

    class Hanging(base.Task):
        def initialize_episode(self, physics: Any) -> None:
            physics.data.qpos[:] = 1.0, np.pi
            super().initialize_episode(physics)

        def get_observation(self, physics: Any) -> dict[str, np.ndarray]:
            return {"position": physics.data.qpos.copy(), "velocity": physics.data.qvel.copy()}

        def get_reward(self, physics: Any) -> float:
            return float(np.cos(physics.data.qpos[1]))

    return control.Environment(mujoco.Physics.from_xml_string(CART_POLE), Hanging(), time_limit=1e3)


def upright(before: Any, action: np.ndarray, after: Any) -> np.ndarray:
    """Near the middle, upright, slow and without effort: as much arithmetic as judo's reward."""
    position, velocity = after.qpos, after.qvel
    tilt = np.sqrt((np.cos(position[..., 1]) - 1.0) ** 2 + 1e-4)
    away = np.sqrt(position[..., 0] ** 2 + 1e-2)
    return -10.0 * tilt - 10.0 * away - 0.05 * (velocity**2).sum(-1) - 0.05 * (action**2).sum(-1)


def ours(samples: int) -> dict[str, Callable[[], object]]:
    """A decision by each method: a function of nothing."""
    import jax

    from foreplan.envs import names as envs
    from foreplan.planners.cem import CEM
    from foreplan.planners.mppi import MPPI
    from foreplan.planners.predictive import predictive_sampling
    from foreplan.planners.sampling import plan_on_host
    from foreplan.planners.splines import Splined
    from foreplan.sims import names as sims
    from foreplan.sims.mujoco import Task
    from foreplan.sims.rollout import scorer

    name = "judo_plan:cart_pole"
    plant, simulator = envs.build(name, 1), sims.make(name, 1, task=Task(upright))
    plant.reset(0)
    elites = max(2, samples // 10)
    planners = {
        "predictive sampling": predictive_sampling(HORIZON, KNOTS, "linear", num_samples=samples, iterations=1),
        "mppi": Splined(
            MPPI(horizon=KNOTS, num_samples=samples, num_proposals=0, num_elites=samples, iterations=1),
            HORIZON,
            "linear",
        ),
        "cem": Splined(CEM(horizon=KNOTS, num_samples=samples, num_elites=elites, iterations=1), HORIZON, "linear"),
    }

    def decide(planner: Any) -> Callable[[], object]:
        held = [planner.init(1)]

        def decision() -> object:
            score = scorer(simulator, plant.snapshot())
            held[0], _ = plan_on_host(planner, score, held[0], jax.random.key(0))
            return np.asarray(planner.act(held[0], False, None))

        return decision

    return {method: decide(planner) for method, planner in planners.items()}


def judos(samples: int) -> dict[str, Callable[[], object]]:
    """As `ours`, in judo."""
    import judo.tasks.base as base  # type: ignore[import-not-found]

    base.download_and_extract_meshes = lambda **_: None  # a cart-pole has none
    from judo.controller.controller import Controller, ControllerConfig  # type: ignore[import-not-found]
    from judo.optimizers import cem, mppi, ps  # type: ignore[import-not-found]
    from judo.tasks.cartpole import Cartpole  # type: ignore[import-not-found]

    kinds = {
        "predictive sampling": (ps.PredictiveSampling, ps.PredictiveSamplingConfig),
        "mppi": (mppi.MPPI, mppi.MPPIConfig),
        "cem": (cem.CrossEntropyMethod, cem.CrossEntropyMethodConfig),
    }
    decisions = {}
    for method, (optimizer, config) in kinds.items():
        task = Cartpole()
        assert task.model.opt.timestep == TIMESTEP
        planner = optimizer(config(num_rollouts=samples, num_nodes=KNOTS), task.nu)
        controller = Controller(ControllerConfig(horizon=HORIZON * TIMESTEP), task, planner)
        assert controller.num_timesteps == HORIZON
        decisions[method] = controller.update_action
    return decisions


def medians(decisions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of a decision by each method."""
    found = {}
    for method, decide in decisions.items():
        times = []
        for _ in range(repeats + 20):
            began = time.perf_counter()
            decide()
            times.append(1e3 * (time.perf_counter() - began))
        found[method] = statistics.median(times[20:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judo", type=Path, required=True, help="a Python that has judo")
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(medians(judos(options.samples[0]), options.repeats)))
        return
    sys.path.insert(0, str(Path(__file__).parent))
    for samples in options.samples:
        decisions, own, theirs = ours(samples), [], []
        for _ in range(options.turns):
            own.append(medians(decisions, options.repeats))
            command = [options.judo, __file__, "--judo", options.judo, "--peer", "--samples", str(samples)]
            said = subprocess.run(
                [*map(str, command), "--repeats", str(options.repeats)], capture_output=True, text=True
            )
            if said.returncode:
                sys.exit(f"judo failed: {said.stderr.strip().splitlines()[-1]}")
            theirs.append(json.loads(said.stdout.splitlines()[-1]))
        for method in METHODS:
            a, b = (min(turn[method] for turn in turns) for turns in (own, theirs))
            print(
                f"{samples:4} samples x {HORIZON} steps  {method:20} foreplan {a:6.2f} ms  judo {b:6.2f} ms", flush=True
            )


if __name__ == "__main__":
    main()
