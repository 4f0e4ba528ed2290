"""A checkpoint of another library as a run directory: to evaluate, to plan with, or to train on by `resume`."""

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from foreplan.agents import tdmpc_official
from foreplan.core.errors import UsageError
from foreplan.core.types import Spec
from foreplan.data import torch_file
from foreplan.envs import names
from foreplan.run.checkpoint import FOLDER, flatten, save, unflatten
from foreplan.run.clock import Stopwatch
from foreplan.run.randomness import Keys
from foreplan.run.settings import Settings, write_config
from foreplan.run.state import begin, learner_like, pack


def import_tdmpc2(file: Path, env: str, out: Path) -> Path:
    """Write the run directory `out` with the authors' TD-MPC2 weights in `file`, trained for `env`.

    What such a file does not hold (optimisers, scales, replay) begins anew. Raises UsageError where the file cannot be
    read, or was made for an environment with other observations or actions.
    """
    if out.exists():
        raise UsageError(f"{out} exists; choose another with --out")
    agent, weights = tdmpc_official.convert(torch_file.read(file))
    with closing(names.make(env)) as made:
        settings = Settings(env, steps=2_000_000)
        _check_spaces(weights, env, made.spec)
        state = begin(agent, made, settings, Keys(0))
        state.learner = unflatten(learner_like(agent, made.spec), flatten(state.learner) | weights)
        parts = pack(state, made) | {"log": {"metrics": 0, "evaluations": 0}, "watch": Stopwatch().snapshot()}
        write_config(out, agent, settings, "tdmpc2")
        save(out / FOLDER, 0, parts, keep=1)
    return out


def _check_spaces(weights: Mapping[str, np.ndarray], env: str, spec: Spec) -> None:
    """Refuse weights made for an environment with other observations, actions or ends."""
    first = next(name for name in weights if re.fullmatch("world/encoder/(blocks/0|last)/linear/weight", name))
    found = weights[first].shape[1], weights["policy/last/bias"].shape[0] // 2
    wanted = *spec.obs_shape, spec.action_dim
    if found != wanted:
        said, needed = (f"{obs} observations and {actions} actions" for obs, actions in (found, wanted))
        raise UsageError(f"the checkpoint was made for {said}; {env} has {needed}")
    if spec.terminates and "world/continuation/last/bias" not in weights:
        raise UsageError(f"the checkpoint knows of no termination, and episodes of {env} can terminate")
