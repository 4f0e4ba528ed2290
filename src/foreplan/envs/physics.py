"""The whole state of a MuJoCo simulation as arrays."""

import warnings
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Exactness, Snapshot

INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
BULKY = ("mesh_", "tex_", "skin_", "flex", "bvh_", "oct_")  # drawn or precomputed; no task changes them


class PhysicsState:
    """Saves and restores one model and its data, bit for bit, on the same MuJoCo version and processor.

    Three parts: the inputs of forward dynamics (warm start included); quantities derived from them, because tasks read
    some of them *before* the next step recomputes them; and what a task has changed in the model since it was built,
    such as the position of a target.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.model, self.data = model, data
        self._size = mujoco.mj_stateSize(model, INTEGRATION)
        fresh = mujoco.MjData(model)  # what is not empty here lies outside the arena and never moves
        self._derived = [getattr(data, name) for name, array in arrays(fresh) if array.dtype == np.float64]
        self._tunable = {name: array for name, array in arrays(model) if not name.startswith(BULKY)}
        self._tunable |= {f"opt.{name}": array for name, array in arrays(model.opt)}
        self._built = {name: array.tobytes() for name, array in self._tunable.items()}

    @property
    def exactness(self) -> Exactness:
        """MuJoCo's sleeping trees and plugins may keep state that it does not give out."""
        asleep = self.model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP
        return "physics" if asleep or self.model.nplugin else "bitwise"

    def save(self) -> Snapshot:
        state = np.empty(self._size)
        mujoco.mj_getState(self.model, self.data, state, INTEGRATION)
        changed = {n: a.copy() for n, a in self._tunable.items() if a.tobytes() != self._built[n]}
        derived = np.concatenate([array.ravel() for array in self._derived])
        return {"mujoco": mujoco.__version__, "state": state, "derived": derived, "model": changed}

    def load(self, saved: Snapshot) -> None:
        if saved["state"].shape != (self._size,):
            raise UsageError(
                f"this snapshot holds {saved['state'].size} numbers of physics (MuJoCo {saved['mujoco']}), the model "
                f"has {self._size} (MuJoCo {mujoco.__version__})"
            )
        if saved["mujoco"] != mujoco.__version__:
            versions = f"MuJoCo {saved['mujoco']}, this is {mujoco.__version__}"
            warnings.warn(f"the snapshot is from {versions}: what follows may differ in the last bits", stacklevel=2)
        for name, array in self._tunable.items():
            built = np.frombuffer(self._built[name], array.dtype).reshape(array.shape)
            array[...] = saved["model"].get(name, built)
        mujoco.mj_setState(self.model, self.data, saved["state"], INTEGRATION)
        mujoco.mj_forward(self.model, self.data)  # contacts and constraints, which live in the arena
        start = 0
        for array in self._derived:
            array[...] = saved["derived"][start : start + array.size].reshape(array.shape)
            start += array.size


def arrays(owner: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of every array that is not empty, by name."""
    for name in sorted(dir(owner)):
        value = None if name.startswith("_") else getattr(owner, name)
        if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            yield name, value
