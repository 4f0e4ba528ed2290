"""Any dm_control or Gymnasium MuJoCo environment as a simulator to plan in: a whole plan in one native call."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import mujoco
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs.base import AdaptedEnv
from foreplan.envs.dm_control import DmAdapter
from foreplan.envs.physics import INTEGRATION, PhysicsState
from foreplan.sims.engine import Engine
from foreplan.sims.loop import Loop
from foreplan.sims.observed import Gathered, gathered
from foreplan.sims.rollout import Rollout
from foreplan.sims.state import State, read

Function = Callable[[State, np.ndarray, State], Any]  # (state before, action, state after) -> [...], NumPy or JAX


class Mechanism(NamedTuple):
    """How an environment steps MuJoCo."""

    substeps: int  # of the physics, for one step of the environment; the control is held
    refreshes: bool  # whether positions and velocities are computed anew after a step, as dm_control does


@dataclass(frozen=True)
class Task:
    """What is wanted, as functions of (state before, action, state after) with leading axes [n, time]; actions are the
    library's, in [-1, 1]."""

    reward: Function
    terminated: Function | None = None
    violated: Function | None = None  # whether the state after is one that is not allowed
    penalty: float = 100.0  # for each environment step in such a state
    value: Callable[[np.ndarray], Any] | None = None  # of observations [n, obs] beyond the horizon
    discount: float = 1.0  # of a decision


class MujocoSimulator:
    """Rolls an environment's physics out from its snapshots. It has its own copy of the environment, `env`: the one
    that is acted in is never touched.

    `vary` changes the model that is planned with, such as its masses; in `coarse` physics the timestep is so many times
    as long, and rewards and penalties count for all the environment steps that they stand for. Raises `UsageError`
    where a function of `task` gives the wrong shape or NaN.
    """

    def __init__(
        self,
        env: AdaptedEnv,
        mechanism: Mechanism,
        task: Task,
        threads: int | None = None,
        vary: Callable[[mujoco.MjModel], None] | None = None,
        coarse: int = 1,
    ) -> None:
        self.env, self.mechanism, self.task, self._vary = env, mechanism, task, vary
        self._coarse, self._substeps, self._repeat = coarse, *merged(mechanism.substeps, env.spec.action_repeat, coarse)
        env.reset(0)
        self.exactness: Exactness = env.exactness
        self._physics: PhysicsState = env.adapter.physics  # type: ignore[attr-defined]
        self._low, self._high = (bound.ravel() for bound in env.action_bounds)
        self._changed: dict[str, np.ndarray] = {}
        self._gathered: Gathered | Literal[False] | None = None  # None: not looked for yet
        self._fields = self._probe()
        self.model = self._varied()
        if "cfrc_ext" in self._fields and not mechanism.refreshes:
            self.engine: Engine | Loop = Loop(self.model, self._substeps, threads)
        else:
            self.engine = Engine(self.model, self._substeps, mechanism.refreshes, threads)

    def snapshot(self) -> Snapshot:
        return self.env.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.env.restore(snapshot)

    def rollout(self, snapshot: Snapshot, actions: np.ndarray) -> Rollout:
        """What `actions` [n, horizon, action] return from `snapshot`, of this environment or of another of its kind."""
        self.go_to(snapshot)
        row, number = snapshot["state"]["physics"]["state"], len(actions)
        rewards, ended, violated, failed = self._run(row, actions, self._read, self.task.value is not None)
        rewards[failed], rewards[failed, 0] = 0.0, -np.inf
        shape = (number, -1, self._repeat)
        discounts = np.where(ended.reshape(shape).any(axis=2), 0.0, self.task.discount)
        values = np.zeros(number) if self.task.value is None else self._values(self.task.value)
        return Rollout(rewards.reshape(shape).sum(axis=2), discounts, values, np.sum(violated, axis=1))

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One decision each, from MuJoCo's states `rows` [n, state] in the world of the last snapshot: (rows after,
        rewards [n], minus infinity where the simulation diverged)."""
        return self._decide(rows, actions)[:2]

    def many(self, snapshot: Snapshot, number: int) -> np.ndarray:
        """`number` times the state of `snapshot`, to be advanced each by itself: rows [n, state]. Raises UsageError
        where the simulator does not take single steps."""
        if not isinstance(self.engine, Engine):
            raise UsageError(f"{self.env.name} cannot be stepped from many states in one native call")
        self.go_to(snapshot)
        return np.repeat(snapshot["state"]["physics"]["state"][None], number, axis=0)

    def advance(
        self, rows: np.ndarray, actions: np.ndarray, obs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One decision each: (rows after, what is observed then, rewards [n], 0 where the episode has terminated)."""
        rows, rewards, ended = self._decide(rows, actions)
        return rows, self.observe(rows), rewards, np.where(ended, 0.0, 1.0)

    def value_by(self, value: Callable[[np.ndarray], Any] | None, discount: float) -> None:
        """Plan with this value of observations [n, obs] beyond the horizon, and this discount of a decision."""
        self.task = replace(self.task, value=value, discount=discount)

    def _decide(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert isinstance(self.engine, Engine)
        rewards, ended, _, failed = self._run(
            rows, actions[:, None], partial(self.engine.describe, rows), keep_final=True
        )
        assert self.engine.final is not None
        return self.engine.final, np.where(failed, -np.inf, rewards.sum(axis=1)), np.asarray(ended.any(axis=1))

    def _run(
        self, rows: np.ndarray, actions: np.ndarray, root: Callable[[str], np.ndarray], keep_final: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(rewards, ended, violated), [n, environment step], and failed [n], of `actions` [n, decision, action]; `root`
        reads a field where the simulations begin. Nothing is earned or violated after an end."""
        task, repeat, weight = self.task, self._repeat, self.env.spec.action_repeat / self._repeat
        actions = np.repeat(actions, repeat, axis=1) if repeat > 1 else actions
        controls = self._rescale(actions)
        given = controls.astype(np.float64, copy=False)
        found, failed = self.engine.run(rows, given, self._fields - {"ctrl"}, keep_final)
        found["ctrl"] = controls
        before = State(self.model, lambda field: _earlier(found[field], root(field)))
        after = State(self.model, found.__getitem__)
        with np.errstate(all="ignore"):  # what has diverged is marked already
            rewards = weight * np.asarray(task.reward(before, actions, after), np.float64)
            ended, violated = (
                np.zeros(actions.shape[:2], bool) if function is None else np.asarray(function(before, actions, after))
                for function in (task.terminated, task.violated)
            )
        alive = np.logical_and.accumulate(np.insert(~ended[:, :-1], 0, True, axis=1), axis=1)
        return np.where(alive, rewards - weight * task.penalty * violated, 0.0), ended, violated & alive, failed

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """What the environment sees in states [n, INTEGRATION]: [n, obs]. In one native call where that is possible."""
        if self._vary is not None or not isinstance(self.engine, Engine):
            return self._look(rows)
        if self._gathered is None:
            self._gathered = gathered(self.model, self.engine, self._look, rows[0]) or False
        return self._gathered(self.engine, rows) if self._gathered else self._look(rows)

    def _look(self, rows: np.ndarray) -> np.ndarray:
        """As `observe`, one by one in Python."""
        adapter: Any = self.env.adapter
        seen = np.empty((len(rows), adapter.layout.size), np.float32)
        for row, obs in zip(rows, seen, strict=True):
            mujoco.mj_setState(self._physics.model, self._physics.data, row, INTEGRATION)
            mujoco.mj_forward(self._physics.model, self._physics.data)
            if isinstance(adapter, DmAdapter):
                obs[:] = adapter._flatten(adapter.env.task.get_observation(adapter.env.physics))
            else:
                obs[:] = adapter._flatten(adapter.env.unwrapped._get_obs())
        return seen

    def _values(self, value: Callable[[np.ndarray], Any]) -> np.ndarray:
        assert self.engine.final is not None
        return np.asarray(value(self.observe(self.engine.final)), np.float64)

    def go_to(self, snapshot: Snapshot) -> None:
        """Plan from where `snapshot` was taken, with whatever the task has changed in the model."""
        saved = snapshot["state"]["physics"]
        self._physics.load(saved)
        changed = saved["model"]
        if changed.keys() != self._changed.keys() or any((changed[k] != self._changed[k]).any() for k in changed):
            self._changed = {name: array.copy() for name, array in changed.items()}
            self.model = self._varied()
            self.engine.set_model(self.model)

    def _varied(self) -> mujoco.MjModel:
        """The model to plan with."""
        if self._vary is None and self._coarse == 1:
            return self._physics.model
        model = copy.copy(self._physics.model)
        model.opt.timestep *= self._coarse
        if self._vary is not None:
            self._vary(model)
        return model

    def _rescale(self, actions: np.ndarray) -> np.ndarray:
        """The environment's own actions, by the same arithmetic as when it acts."""
        middle, half = 0.5 * (self._high + self._low), 0.5 * (self._high - self._low)
        raw = np.minimum(np.maximum(middle + half * actions, self._low), self._high)
        return raw.astype(self._low.dtype, copy=False)

    def _read(self, field: str) -> np.ndarray:
        return read(self._physics.data, field)

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
        for name in ("reward", "terminated", "violated"):
            function = getattr(self.task, name)
            if function is None:
                continue
            try:
                given = np.asarray(function(state, actions, state))
            except UsageError:
                raise
            except Exception as error:  # a user's function fails in its own way
                raise UsageError(f"{name} failed: {type(error).__name__}: {error}") from error
            if given.shape != (number, steps):
                raise UsageError(f"{name} gave shape {given.shape} for states of leading axes {(number, steps)}")
            if np.isnan(given).any():
                raise UsageError(f"{name} gave NaN in the first state of {self.env.name}")
        return seen


def _earlier(found: np.ndarray, root: np.ndarray) -> np.ndarray:
    """A field [n, step, ...] one step earlier; `root` is what it was in the beginning, [...] or [n, ...]."""
    first = np.broadcast_to(root, (len(found), *found.shape[2:]))[:, None]
    return np.concatenate([first, found[:, :-1]], axis=1)


def merged(substeps: int, repeat: int, coarse: int) -> tuple[int, int]:
    """(substeps, environment steps) of a decision, in steps of the physics that are `coarse` times as long. Raises
    `UsageError` where they do not divide it."""
    if coarse < 1 or substeps * repeat % coarse:
        raise UsageError(f"coarse must divide the {substeps * repeat} physics steps of a decision, not be {coarse}")
    joined = math.gcd(substeps, coarse)
    return substeps // joined, repeat // (coarse // joined)
