"""Thousands of MuJoCo simulations from one state, in one native call on a pool of threads (`mujoco.batch`)."""

from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco import batch

from foreplan.core.machine import cores

INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
STATE = {"qpos", "qvel", "act", "mocap_pos", "mocap_quat", "userdata", "eq_active", "qfrc_applied", "xfrc_applied"}
# What depends on accelerations is known only while a substep is taken: environments, too, read it of the last one.
ACCELERATION = {
    "qacc",
    "qacc_smooth",
    "qacc_warmstart",
    "qfrc_constraint",
    "qfrc_smooth",
    "qfrc_actuator",
    "qfrc_inverse",
}
ACCELERATION |= {"actuator_force", "act_dot", "cacc", "cfrc_int", "cfrc_ext"}


class Engine:
    """Runs controls from one state and records MjData's arrays as an environment reads them after each of its steps.

    `refreshes` says whether the environment recomputes positions and velocities after a step, as dm_control does
    (`legacy_step`); Gymnasium leaves what belongs to the state before the last substep.
    """

    def __init__(self, model: mujoco.MjModel, substeps: int, refreshes: bool, threads: int | None = None) -> None:
        self.model, self.substeps = model, substeps
        self._threads = threads or cores()
        self._refreshes = refreshes
        self._runge_kutta = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
        stages = np.repeat(model.sensor_needstage, model.sensor_dim)
        self._late = stages == mujoco.mjtStage.mjSTAGE_ACC  # columns of sensordata
        self._template = mujoco.MjData(model)
        self._buffers: dict[tuple[tuple[int, ...], str], np.ndarray] = {}  # to record into, from plan to plan
        self._batch: batch.Batch | None = None
        self._describer: batch.Batch | None = None
        self.final: np.ndarray | None = None

    def run(
        self, row: np.ndarray, controls: np.ndarray, fields: set[str], keep_final: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """({field: [n, steps, ...]}, failed [n]) for `controls` [n, steps, nu], held for `substeps` each, from `row`
        (INTEGRATION). A simulation that diverged is marked as failed; its arrays mean nothing. The states in which the
        simulations end, [n, state], are kept in `final` if asked for."""
        number = len(controls)
        sims = self._batch = self._reserve(self._batch, number)
        ids = first(number, sims)
        sims.state[:number] = row
        sims.warning[:] = 0
        failed = np.zeros(number, bool)
        held = np.repeat(controls, self.substeps, axis=1) if self.substeps > 1 else controls
        fresh = (fields - STATE - ACCELERATION) if self._refreshes else set()
        states = {"qpos", "qvel", "act"} if fresh and self._runge_kutta else set()
        seen = self._call(sims, held, sorted(fields | states) or ["qpos"], ids, failed)
        self.final = sims.state[:number].copy() if keep_final else None
        found = {field: array[:, self.substeps - 1 :: self.substeps] for field, array in seen.items()}
        if fresh and self._runge_kutta:
            current = self._describe(row, found, fresh)
        elif fresh:
            last = self._call(sims, controls[:, -1:], sorted(fresh), ids, failed)
            current = {field: later(seen[field], last[field], self.substeps) for field in fresh}
        for field in fresh:
            late = self._late if field == "sensordata" else np.zeros((), bool)
            found[field] = np.where(late, found[field], current[field]) if late.any() else current[field]
        failed |= sims.warning[:number].reshape(number, -1).any(axis=1)
        return found, failed

    def describe(self, rows: np.ndarray, field: str) -> np.ndarray:
        """A field [n, ...] in states `rows` [n, state]."""
        return self.describe_all(rows, (field,))[field]

    def describe_all(self, rows: np.ndarray, fields: Sequence[str]) -> dict[str, np.ndarray]:
        """Fields [n, ...] in states `rows` [n, state]."""
        number = len(rows)
        sims = self._describer = self._reserve(self._describer, number)
        arrays = {field: sims.bind(field) for field in fields}
        sims.state[:number] = rows
        if not STATE.issuperset(fields):
            sims.forward(first(number, sims), stage=mujoco.mjtStage.mjSTAGE_VEL.value)
        return {field: array[:number].copy() for field, array in arrays.items()}

    def set_model(self, model: mujoco.MjModel) -> None:
        """Run on `model` from now on: the same one with other numbers in it."""
        self.model = model
        for sims in (self._batch, self._describer):
            if sims is not None:
                sims.set_models(model)

    def _reserve(self, kept: batch.Batch | None, number: int) -> batch.Batch:
        """What was kept, if it is for so many simulations; else a new one, which takes longer to make than to use."""
        return kept if kept is not None and kept.nsim >= number else batch.Batch(self.model, number, self._threads)

    def _call(
        self, sims: batch.Batch, control: np.ndarray, record: list[str], ids: np.ndarray | None, failed: np.ndarray
    ) -> dict[str, np.ndarray]:
        shape = control.shape[:2]
        if len(self._buffers) > 64:
            self._buffers.clear()
        for name in record:
            if (shape, name) not in self._buffers:
                field = getattr(self._template, name)
                self._buffers[shape, name] = np.zeros((*shape, *field.shape), field.dtype)
        seen = {name: self._buffers[shape, name] for name in record}
        try:
            sims.rollout(control.shape[1], control, record=record, ids=ids, out=seen)
        except batch.SimulationError as error:  # the others ran to completion
            failed[error.ids] = True
        return seen

    def _describe(self, row: np.ndarray, found: dict[str, np.ndarray], fields: set[str]) -> dict[str, np.ndarray]:
        """Derived fields at recorded states: Runge-Kutta leaves behind those of an intermediate stage."""
        number, steps = found["qpos"].shape[:2]
        states = number * steps
        sims = self._describer = self._reserve(self._describer, states)
        arrays = {field: sims.bind(field) for field in fields}
        sims.state[:states] = row
        for name in ("qpos", "qvel", "act"):
            sims.bind(name)[:states] = found[name].reshape(states, -1)
        sims.forward(first(states, sims), stage=mujoco.mjtStage.mjSTAGE_VEL.value)
        return {
            field: array[:states].reshape(number, steps, *array.shape[1:]).copy() for field, array in arrays.items()
        }


def first(number: int, sims: batch.Batch) -> np.ndarray | None:
    """The first so many simulations, or None for all."""
    return None if number == sims.nsim else np.arange(number)


def later(seen: np.ndarray, last: np.ndarray, substeps: int) -> np.ndarray:
    """What was recorded in the substep after each step: it describes the state that the step has led to."""
    return np.concatenate([seen[:, substeps::substeps], last], axis=1)
