"""Single decisions from many MuJoCo states at once, and how to move and to compare states: what finite differences
need. A state lives on a manifold (a rotation has four numbers and three directions); changes are of its tangent space.
"""

import mujoco
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Snapshot
from foreplan.sims.engine import INTEGRATION, Engine
from foreplan.sims.mujoco import MujocoSimulator

QPOS, QVEL, ACT = (mujoco.mjtState.mjSTATE_QPOS, mujoco.mjtState.mjSTATE_QVEL, mujoco.mjtState.mjSTATE_ACT)


class Steps:
    """Decisions in `simulator` from where `snapshot` was taken. Rows are MuJoCo states, float64 [state]; changes are of
    positions, velocities and activations, float64 [dim]. Raises `UsageError` where the simulator does not take single
    steps in one native call, or knows of a value beyond the horizon."""

    def __init__(self, simulator: MujocoSimulator, snapshot: Snapshot) -> None:
        if not isinstance(simulator, MujocoSimulator) or not isinstance(simulator.engine, Engine):
            raise UsageError(f"{simulator.env.name} cannot be stepped from many states in one native call")
        if simulator.task.value is not None:
            raise UsageError("finite differences know of no value beyond the horizon")
        simulator.go_to(snapshot)
        self._simulator, self._model = simulator, simulator.model
        self.start: np.ndarray = snapshot["state"]["physics"]["state"]
        self._qpos, self._qvel, self._act = (self._places(part) for part in (QPOS, QVEL, ACT))
        self._flat = len(self._qpos) == len(self._qvel)  # no rotations: positions are numbers

    @property
    def dim(self) -> int:
        return 2 * len(self._qvel) + len(self._act)

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows after [n, state], rewards [n]) of `actions` [n, action] from `rows` [n, state]; a reward is minus
        infinity where the simulation diverged."""
        return self._simulator.step(rows, actions)

    def moved(self, rows: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """`rows` [n, state], moved by `changes` [n, dim]."""
        turn, speed, activation = self._split(changes)
        after = rows.copy()
        after[:, self._qvel] += speed
        after[:, self._act] += activation
        if self._flat:
            after[:, self._qpos] += turn
            return after
        for row, by in zip(after, turn, strict=True):
            position = row[self._qpos]
            mujoco.mj_integratePos(self._model, position, by, 1.0)
            row[self._qpos] = position
        return after

    def difference(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[n, dim]: the changes that move `rows` to `others`."""
        turn = others[:, self._qpos] - rows[:, self._qpos]
        if not self._flat:
            turn = np.empty((len(rows), len(self._qvel)))
            for out, row, other in zip(turn, rows, others, strict=True):
                mujoco.mj_differentiatePos(self._model, out, 1.0, row[self._qpos], other[self._qpos])
        rest = [others[:, part] - rows[:, part] for part in (self._qvel, self._act)]
        return np.concatenate([turn, *rest], axis=1)

    def _split(self, changes: np.ndarray) -> list[np.ndarray]:
        nv = len(self._qvel)
        return np.split(changes, [nv, 2 * nv], axis=1)

    def _places(self, part: mujoco.mjtState) -> np.ndarray:
        """Where in a row the numbers of `part` stand."""
        numbered = np.arange(len(self.start), dtype=np.float64)
        found = np.empty(mujoco.mj_stateSize(self._model, part))
        mujoco.mj_extractState(self._model, numbered, INTEGRATION, found, part)
        return found.astype(int)
