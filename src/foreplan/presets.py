"""The agents by name, and their sizes. An agent's module is imported when it is asked for, not before."""

import importlib
from typing import Any

from foreplan.core.errors import unknown

AGENTS = {  # each names a dict[size, agent], the default size first
    "crossq": "foreplan.agents.sac_presets:CROSSQ_SIZES",
    "droq": "foreplan.agents.sac_presets:DROQ_SIZES",
    "frugal": "foreplan.agents.sac_presets:FRUGAL_SIZES",
    "redq": "foreplan.agents.sac_presets:REDQ_SIZES",
    "sac": "foreplan.agents.sac_presets:SAC_SIZES",
    "tdmpc2": "foreplan.agents.tdmpc:SIZES",
}
PLANNERS = {
    "cem": "foreplan.planners.cem:CEM",
    "discrete": "foreplan.planners.discrete:Discrete",
    "icem": "foreplan.planners.icem:ICEM",
    "mppi": "foreplan.planners.mppi:MPPI",
    "random-shooting": "foreplan.planners.random_shooting:RandomShooting",
}


def planner(name: str) -> Any:
    """The class of the planner called `name`. Raises UsageError with the nearest name where there is none."""
    if name not in PLANNERS:
        raise unknown("planner", name, PLANNERS)
    return _imported(PLANNERS[name])


def sizes(name: str) -> dict[str, Any]:
    """The agents called `name`, by size. Raises UsageError with the nearest name where there is none."""
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return _imported(AGENTS[name])


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def preset(name: str, size: str | None = None) -> Any:
    """The agent called `name` of a size, by default its first."""
    by_size = sizes(name)
    size = size or next(iter(by_size))
    if size not in by_size:
        raise unknown(f"size of {name}", size, by_size)
    return by_size[size]
