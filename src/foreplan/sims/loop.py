"""Simulations stepped one by one from Python, for what `mujoco.batch` does not compute: contact forces.

MuJoCo lets other threads run while it steps, so a pool of them still keeps all processors busy.
"""

from concurrent.futures import ThreadPoolExecutor

import mujoco
import numpy as np

from foreplan.core.machine import cores
from foreplan.sims.engine import INTEGRATION


class Loop:
    """As `engine.Engine` for an environment that calls `mj_rnePostConstraint` after each of its steps."""

    def __init__(self, model: mujoco.MjModel, substeps: int, threads: int | None = None) -> None:
        self.model, self.substeps = model, substeps
        self._data = [mujoco.MjData(model) for _ in range(threads or cores())]
        self._pool = ThreadPoolExecutor(len(self._data))
        self.final: np.ndarray | None = None

    def set_model(self, model: mujoco.MjModel) -> None:
        self.model = model

    def run(
        self, row: np.ndarray, controls: np.ndarray, fields: set[str], keep_final: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """As `Engine.run`."""
        shape = controls.shape[:2]
        found = {field: np.empty((*shape, *getattr(self._data[0], field).shape)) for field in fields}
        failed = np.zeros(len(controls), bool)
        self.final = np.zeros((len(controls), len(row))) if keep_final else None

        def work(worker: int) -> None:
            for index in range(worker, len(controls), len(self._data)):
                failed[index] = not self._simulate(self._data[worker], row, controls, found, index)

        list(self._pool.map(work, range(len(self._data))))
        return found, failed

    def _simulate(
        self, data: mujoco.MjData, row: np.ndarray, controls: np.ndarray, found: dict[str, np.ndarray], index: int
    ) -> bool:
        """Whether the simulation went well."""
        mujoco.mj_setState(self.model, data, row, INTEGRATION)
        data.warning.number[:] = 0
        for step, control in enumerate(controls[index]):
            data.ctrl[:] = control
            try:
                mujoco.mj_step(self.model, data, self.substeps)
            except mujoco.FatalError:
                return False
            mujoco.mj_rnePostConstraint(self.model, data)
            for field, array in found.items():
                array[index, step] = getattr(data, field)
        if self.final is not None:
            mujoco.mj_getState(self.model, data, self.final[index], INTEGRATION)
        return not data.warning.number.any()
