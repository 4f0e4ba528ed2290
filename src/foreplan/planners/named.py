"""The planners by name, with settings for models that say nothing of what lies beyond the horizon, such as simulators;
and the settings that have proved good for single tasks."""

from typing import Any, NamedTuple

from foreplan.planners.cem import CEM
from foreplan.planners.discrete import Discrete
from foreplan.planners.gradient import Gradient
from foreplan.planners.icem import ICEM
from foreplan.planners.ilqr import ILQR
from foreplan.planners.mppi import MPPI
from foreplan.planners.predictive import predictive_sampling
from foreplan.planners.random_shooting import RandomShooting
from foreplan.planners.splines import Splined

PLANNERS: dict[str, Any] = {
    "cem": CEM(num_samples=64, num_elites=10, iterations=3),
    "discrete": Discrete(),
    "gradient": Gradient(),
    "icem": ICEM(),
    "icem-spline": Splined(ICEM(horizon=10, exponent=0.0), horizon=60),
    "ilqr": ILQR(),
    "mppi": MPPI(horizon=30, num_samples=64, num_proposals=0, num_elites=32, iterations=3, max_std=0.5),
    "predictive-sampling": predictive_sampling(num_samples=64, iterations=3),
    "random-shooting": RandomShooting(),
}


class Tuned(NamedTuple):
    planner: str
    settings: Any
    action_repeat: int


TASKS: dict[str, Tuned] = {}
