"""Observations of many MuJoCo states in one native call, where an observation is made of MjData's own numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from foreplan.envs.physics import INTEGRATION
from foreplan.sims.engine import Engine

FIELDS = ("qpos", "qvel", "act", "xmat", "xpos", "xipos", "geom_xpos", "site_xpos", "subtree_com")
PROBES = 16  # random states in which an observation must be these numbers exactly, at speeds that no clipping lets by


@dataclass(frozen=True)
class Gathered:
    """Entry i of an observation is entry `places[i]` of `fields`, flattened and one after the other."""

    fields: tuple[str, ...]
    places: np.ndarray

    def __call__(self, engine: Engine, rows: np.ndarray) -> np.ndarray:
        """What is observed in states `rows` [n, state]: float32 [n, obs]."""
        found = engine.describe_all(rows, self.fields)
        flat = [array.reshape(len(rows), -1) for array in found.values()]
        return np.concatenate(flat, axis=1)[:, self.places].astype(np.float32)


def gathered(
    model: mujoco.MjModel, engine: Engine, observe: Callable[[np.ndarray], np.ndarray], row: np.ndarray
) -> Gathered | None:
    """How to gather what `observe` sees of states [n, state]; None where it is computed otherwise. Found from states
    drawn around `row`."""
    rows = drawn(model, row)
    obs, found = observe(rows), engine.describe_all(rows, FIELDS)
    flat = np.concatenate([found[name].reshape(len(rows), -1) for name in FIELDS], axis=1).astype(np.float32)
    same = (obs[:, :, None] == flat[:, None]).all(axis=0)  # [obs, number]
    varies = (obs != obs[:1]).any(axis=0)  # what never does may be anything
    if not (same.any(axis=1) & varies).all():
        return None
    places = same.argmax(axis=1)
    edges = np.cumsum([0] + [found[name][0].size for name in FIELDS])
    used = [i for i in range(len(FIELDS)) if ((edges[i] <= places) & (places < edges[i + 1])).any()]
    shift = {place: at for at, place in enumerate(np.concatenate([np.arange(edges[i], edges[i + 1]) for i in used]))}
    return Gathered(tuple(FIELDS[i] for i in used), np.array([shift[place] for place in places]))


def drawn(model: mujoco.MjModel, row: np.ndarray) -> np.ndarray:
    """PROBES states [PROBES, state], each as `row` but for random positions, speeds and activations."""
    random, data = np.random.default_rng(0), mujoco.MjData(model)
    rows = np.repeat(row[None], PROBES, axis=0)
    for each in rows:
        mujoco.mj_setState(model, data, each, INTEGRATION)
        mujoco.mj_integratePos(model, data.qpos, random.normal(size=model.nv), 1.0)
        data.qvel[:] = 30.0 * random.normal(size=model.nv)
        data.act[:] = random.normal(size=model.na)
        mujoco.mj_getState(model, data, each, INTEGRATION)
    return rows
