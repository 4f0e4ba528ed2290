"""What a reward function sees of a simulation, or of thousands of them at once."""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from foreplan.core.errors import unknown

Read = Callable[[str], np.ndarray]


class State:
    """MjData's arrays by MuJoCo's own names, with leading axes [candidate, time]: `state.qpos` is [..., nq].

    All quantities are those that the environment itself reads after a step. `state.model` is the MjModel, with whatever
    the task has changed in it, such as the place of a target.
    """

    def __init__(self, model: mujoco.MjModel, read: Read) -> None:
        self.model, self._read = model, read

    def __getattr__(self, field: str) -> np.ndarray:
        if field.startswith("_"):
            raise AttributeError(field)
        return self._read(field)

    def body(self, name: str) -> np.ndarray:
        """Position of a body's frame in the world, [..., 3] in m."""
        return self.xpos[..., self._id("body", name), :]

    def mass_centre(self, name: str) -> np.ndarray:
        """Position of a body's own centre of mass, [..., 3] in m."""
        return self.xipos[..., self._id("body", name), :]

    def rotation(self, body: str) -> np.ndarray:
        """Rotation matrix of a body, [..., 3, 3]: its columns are the body's axes in the world."""
        matrix = self.xmat[..., self._id("body", body), :]
        return matrix.reshape(*matrix.shape[:-1], 3, 3)

    def up(self, body: str) -> np.ndarray:
        """How far a body's z axis points up: the cosine of its tilt, [...]."""
        return self.xmat[..., self._id("body", body), 8]

    def geom(self, name: str) -> np.ndarray:
        """Position of a geom, [..., 3] in m."""
        return self.geom_xpos[..., self._id("geom", name), :]

    def site(self, name: str) -> np.ndarray:
        """Position of a site, [..., 3] in m."""
        return self.site_xpos[..., self._id("site", name), :]

    def sensor(self, name: str) -> np.ndarray:
        """A sensor's readings, [..., dimension]."""
        index = self._id("sensor", name)
        start = self.model.sensor_adr[index]
        return self.sensordata[..., start : start + self.model.sensor_dim[index]]

    def angle(self, joint: str) -> np.ndarray:
        """Position of a joint with one degree of freedom, [...] in rad or m."""
        return self.qpos[..., self.model.jnt_qposadr[self._id("joint", joint)]]

    def _id(self, kind: str, name: str) -> int:
        owner = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        index = mujoco.mj_name2id(self.model, owner, name)
        if index < 0:
            count = {"body": "nbody", "geom": "ngeom", "site": "nsite", "sensor": "nsensor", "joint": "njnt"}[kind]
            known = [mujoco.mj_id2name(self.model, owner, i) for i in range(getattr(self.model, count))]
            raise unknown(kind, name, [other for other in known if other])
        return index


def of_data(model: mujoco.MjModel, data: mujoco.MjData) -> State:
    """The one state that `data` is in: arrays without leading axes."""
    return State(model, lambda field: read(data, field))


def read(data: Any, field: str) -> np.ndarray:
    value = getattr(data, field, None)
    if not isinstance(value, np.ndarray | float):
        raise unknown("field of MjData", field, [n for n in dir(data) if isinstance(getattr(data, n), np.ndarray)])
    return np.array(value)
