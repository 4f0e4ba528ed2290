"""The agents by name, and their sizes; the planners by name. Each module is imported when it is asked for, not
before."""

import importlib
from collections.abc import Iterable
from typing import Any

from foreplan.core.errors import unknown

AGENTS = {  # each names a dict[size, agent], the default size first
    "bc": "foreplan.agents.bc:SIZES",
    "crossq": "foreplan.agents.sac_presets:CROSSQ_SIZES",
    "dagger": "foreplan.agents.dagger:SIZES",
    "droq": "foreplan.agents.sac_presets:DROQ_SIZES",
    "frugal": "foreplan.agents.sac_presets:FRUGAL_SIZES",
    "mbmpc": "foreplan.agents.mbmpc:SIZES",
    "mbpo": "foreplan.agents.mbpo:SIZES",
    "pets": "foreplan.agents.pets:SIZES",
    "redq": "foreplan.agents.sac_presets:REDQ_SIZES",
    "sac": "foreplan.agents.sac_presets:SAC_SIZES",
    "simba": "foreplan.agents.sac_presets:SIMBA_SIZES",
    "tdmpc": "foreplan.agents.tdmpc_presets:ORIGINAL_SIZES",
    "tdmpc2": "foreplan.agents.tdmpc_presets:SIZES",
}
PLANNERS = (
    "cem",
    "discrete",
    "gradient",
    "icem",
    "icem-spline",
    "ilqr",
    "mbop",
    "mppi",
    "predictive-sampling",
    "random-shooting",
)


def planner(name: str) -> Any:
    """The planner called `name`. Raises UsageError with the nearest name where there is none."""
    if name not in PLANNERS:
        raise unknown("planner", name, PLANNERS)
    return _imported("foreplan.planners.named:PLANNERS")[name]


def tuned(words: Iterable[str]) -> Any:
    """What has proved good for the environment that is among `words`, else for most: a `planners.named.Tuned`."""
    return _imported("foreplan.planners.named:tuned")(words)


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
