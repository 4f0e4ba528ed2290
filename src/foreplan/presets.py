"""The agents by name, and their sizes. An agent's module is imported when it is asked for, not before."""

import importlib
from typing import Any

from foreplan.core.errors import unknown

AGENTS = {"tdmpc2": "foreplan.agents.tdmpc"}  # each module has SIZES: dict[size, agent], the default size first
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
    module, _, attribute = PLANNERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def sizes(name: str) -> dict[str, Any]:
    """The agents called `name`, by size. Raises UsageError with the nearest name where there is none."""
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return importlib.import_module(AGENTS[name]).SIZES


def preset(name: str, size: str | None = None) -> Any:
    """The agent called `name` of a size, by default its first."""
    by_size = sizes(name)
    size = size or next(iter(by_size))
    if size not in by_size:
        raise unknown(f"size of {name}", size, by_size)
    return by_size[size]
