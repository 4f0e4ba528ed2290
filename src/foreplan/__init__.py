"""Model-based reinforcement learning and planning for environments that are expensive to step.

The public names, each imported when it is first used: a process that only steps an environment never imports JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foreplan.agents.bc import BC as BC
    from foreplan.agents.dagger import DAgger as DAgger
    from foreplan.agents.mbpo import MBPO as MBPO
    from foreplan.agents.sac import SAC as SAC
    from foreplan.agents.tdmpc import TDMPC2 as TDMPC2
    from foreplan.controller.controller import Controller as Controller
    from foreplan.controller.threaded import ThreadedController as ThreadedController
    from foreplan.core.errors import EnvError as EnvError
    from foreplan.core.errors import UsageError as UsageError
    from foreplan.core.model import Model as Model
    from foreplan.core.types import Spec as Spec
    from foreplan.envs.names import make as make
    from foreplan.planners.mppi import MPPI as MPPI
    from foreplan.planners.sampling import plan as plan
    from foreplan.presets import preset as preset
    from foreplan.run.loop import resume as resume
    from foreplan.run.loop import train as train
    from foreplan.run.saved import Saved as Saved
    from foreplan.run.settings import Settings as Settings

_HOME = {
    "BC": "foreplan.agents.bc",
    "DAgger": "foreplan.agents.dagger",
    "MBPO": "foreplan.agents.mbpo",
    "SAC": "foreplan.agents.sac",
    "TDMPC2": "foreplan.agents.tdmpc",
    "Controller": "foreplan.controller.controller",
    "ThreadedController": "foreplan.controller.threaded",
    "EnvError": "foreplan.core.errors",
    "UsageError": "foreplan.core.errors",
    "Model": "foreplan.core.model",
    "Spec": "foreplan.core.types",
    "make": "foreplan.envs.names",
    "MPPI": "foreplan.planners.mppi",
    "plan": "foreplan.planners.sampling",
    "preset": "foreplan.presets",
    "resume": "foreplan.run.loop",
    "train": "foreplan.run.loop",
    "Saved": "foreplan.run.saved",
    "Settings": "foreplan.run.settings",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'foreplan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
