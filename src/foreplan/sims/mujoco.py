"""Any dm_control or Gymnasium MuJoCo environment as a simulator to plan in: a whole plan in one native call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs.base import AdaptedEnv
from foreplan.envs.physics import PhysicsState
from foreplan.sims.engine import Engine
from foreplan.sims.loop import Loop
from foreplan.sims.rollout import Rollout
from foreplan.sims.state import State, read

Function = Callable[[State, np.ndarray, State], Any]  # (state before, action, state after) -> [...], NumPy or JAX


class Mechanism(NamedTuple):
    """How an environment steps MuJoCo."""

    substeps: int  # of the physics, for one step of the environment; the control is held
    refreshes: bool  # whether positions and velocities are computed anew after a step, as dm_control does


class MujocoSimulator:
    """Rolls an environment's physics out from its snapshots. It has its own copy of the environment, `env`: the one
    that is acted in is never touched.

    `reward` and `terminated` are functions of (state before, action, state after) with leading axes [n, time]; actions
    are the library's, in [-1, 1]. Raises `UsageError` where they give the wrong shape or NaN.
    """

    def __init__(
        self,
        env: AdaptedEnv,
        mechanism: Mechanism,
        reward: Function,
        terminated: Function | None = None,
        threads: int | None = None,
    ) -> None:
        self.env, self.mechanism = env, mechanism
        env.reset(0)
        self.exactness: Exactness = env.exactness
        self._physics: PhysicsState = env.adapter.physics  # type: ignore[attr-defined]
        self._reward, self._terminated = reward, terminated
        self._low, self._high = (bound.ravel() for bound in env.action_bounds)
        self._changed: dict[str, np.ndarray] = {}
        self._fields = self._probe()
        self.model = model = self._physics.model
        if "cfrc_ext" in self._fields and not mechanism.refreshes:
            self._engine: Engine | Loop = Loop(model, mechanism.substeps, threads)
        else:
            self._engine = Engine(model, mechanism.substeps, mechanism.refreshes, threads)

    def snapshot(self) -> Snapshot:
        return self.env.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.env.restore(snapshot)

    def rollout(self, snapshot: Snapshot, actions: np.ndarray) -> Rollout:
        """What `actions` [n, horizon, action] return from `snapshot`, of this environment or of another of its kind."""
        self._go_to(snapshot["state"]["physics"])
        repeat = self.env.spec.action_repeat
        actions = np.repeat(actions, repeat, axis=1) if repeat > 1 else actions
        controls = self._rescale(actions)
        row = snapshot["state"]["physics"]["state"]
        found, failed = self._engine.run(row, controls.astype(np.float64), self._fields - {"ctrl"})
        found["ctrl"] = controls
        rewards, ended = self._judge(found, actions)
        alive = np.cumprod(np.concatenate([np.ones_like(ended[:, :1]), ~ended[:, :-1]], axis=1), axis=1, dtype=bool)
        rewards = np.where(alive, rewards, 0.0)
        rewards[failed], rewards[failed, 0] = 0.0, -np.inf
        shape = (len(actions), -1, repeat)
        discounts = np.where(ended.reshape(shape).any(axis=2), 0.0, 1.0)
        return Rollout(rewards.reshape(shape).sum(axis=2), discounts, np.zeros(len(actions)))

    def _go_to(self, saved: Snapshot) -> None:
        self._physics.load(saved)
        changed = saved["model"]
        if changed.keys() != self._changed.keys() or any((changed[k] != self._changed[k]).any() for k in changed):
            self._changed = {name: array.copy() for name, array in changed.items()}
            self._engine.set_model(self._physics.model)

    def _rescale(self, actions: np.ndarray) -> np.ndarray:
        """The environment's own actions, by the same arithmetic as when it acts."""
        middle, half = 0.5 * (self._high + self._low), 0.5 * (self._high - self._low)
        raw = np.minimum(np.maximum(middle + half * actions, self._low), self._high)
        return raw.astype(self._low.dtype, copy=False)

    def _judge(self, found: dict[str, np.ndarray], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards and ends of all steps, [n, time]."""
        model, shape = self._physics.model, actions.shape[:2]
        before, after = State(model, lambda field: self._earlier(found, field)), State(model, found.__getitem__)
        with np.errstate(all="ignore"):  # what has diverged is marked already
            rewards = np.array(self._reward(before, actions, after), np.float64)
            ended = np.zeros(shape, bool) if self._terminated is None else self._terminated(before, actions, after)
        return rewards, np.asarray(ended, bool)

    def _earlier(self, found: dict[str, np.ndarray], field: str) -> np.ndarray:
        """A field one step earlier: at the beginning, what the environment has read there."""
        root = read(self._physics.data, field)
        first = np.broadcast_to(root, (len(found[field]), 1, *root.shape))
        return np.concatenate([first, found[field][:, :-1]], axis=1)

    def _probe(self) -> set[str]:
        """The fields that the functions read, by trying them on a few copies of the first state."""
        seen: set[str] = set()
        number, steps = 2, 3

        def spread(field: str) -> np.ndarray:
            seen.add(field)
            value = read(self._physics.data, field)
            return np.broadcast_to(value, (number, steps, *value.shape))

        state = State(self._physics.model, spread)
        actions = np.zeros((number, steps, self.env.spec.action_dim), np.float32)
        for name, function in (("reward", self._reward), ("terminated", self._terminated)):
            if function is None:
                continue
            given = np.asarray(function(state, actions, state))
            if given.shape != (number, steps):
                raise UsageError(f"{name} gave shape {given.shape} for states of leading axes {(number, steps)}")
            if np.isnan(given).any():
                raise UsageError(f"{name} gave NaN in the first state of {self.env.name}")
        return seen
