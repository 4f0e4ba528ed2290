"""The planners by name, with settings for models that say nothing of what lies beyond the horizon, such as simulators;
and the settings that have proved good for single tasks."""

from collections.abc import Iterable
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
    "mbop": MPPI(horizon=12, num_samples=128, num_proposals=96, num_elites=32, iterations=1, max_std=0.1),
    "mppi": MPPI(horizon=30, num_samples=64, num_proposals=0, num_elites=32, iterations=3, max_std=0.5),
    "predictive-sampling": predictive_sampling(num_samples=64, iterations=3),
    "random-shooting": RandomShooting(),
}


class Tuned(NamedTuple):
    """What to plan a task with. `reward` is a function to plan for where the task's own is flat within the horizon;
    `teacher` is cheaper by far and nearly as good, for an expert that is asked for thousands of labels, and plans in
    physics steps `teacher_coarse` times as long."""

    name: str
    planner: Any
    action_repeat: int | None = None
    reward: str | None = None
    teacher: Any = None
    teacher_coarse: int = 1


# How they were found: docs/planning.md.
FAST = ICEM(horizon=30, num_samples=384, iterations=4, exponent=0.5, std=1.0, warm_std=0.3)
SLOW = ICEM(horizon=90, num_samples=256, iterations=3, exponent=2.0, std=1.0, warm_std=0.3)
PLAIN = ICEM(horizon=30, num_samples=48, iterations=2, exponent=1.0, warm_std=0.3)
SHORT = ICEM(horizon=20, num_samples=96, iterations=3, exponent=1.0, std=0.8, warm_std=0.3)
WHITE = ICEM(horizon=18, num_samples=384, iterations=3, exponent=0.0, std=2.0, warm_std=0.0)
FRESH = ICEM(horizon=25, num_samples=192, iterations=3, exponent=1.0, std=1.0, warm_std=0.0)
CHEAP = ICEM(horizon=12, num_samples=24, iterations=2, exponent=1.0, std=0.8, warm_std=0.3)
SHAPED = "foreplan.sims.rewards.shaped"
TASKS = {
    "dmc/acrobot-swingup": Tuned("icem", SLOW, 2),
    "dmc/cartpole-swingup": Tuned("icem", PLAIN, 4),
    "dmc/cheetah-run": Tuned("icem", FAST, 2),
    "dmc/finger-spin": Tuned("icem", WHITE, 1, f"{SHAPED}:finger_spin"),
    "dmc/hopper-stand": Tuned("icem", FRESH, 4, f"{SHAPED}:hopper_stand"),
    "dmc/humanoid-stand": Tuned("icem", SHORT, 2, f"{SHAPED}:humanoid_stand"),
    "dmc/reacher-easy": Tuned("icem", PLAIN, 4),
    "dmc/walker-walk": Tuned("icem", SHORT, 2, teacher=CHEAP, teacher_coarse=5),
}


def tuned(words: Iterable[str]) -> Tuned:
    """What has proved good for the environment that is among `words`, else for most."""
    return next((TASKS[word] for word in words if word in TASKS), Tuned("icem", PLANNERS["icem"]))
