"""dm_control's suite, and any other `dm_env.Environment`."""

import re
from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np

from foreplan.core.errors import RenderUnavailable, unknown
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs import gl, state
from foreplan.envs.base import StepResult
from foreplan.envs.layout import Layout

gl.configure()

from dm_control import mujoco, suite  # noqa: E402
from dm_control.rl import control  # noqa: E402

from foreplan.envs import warned  # noqa: E402
from foreplan.envs.physics import PhysicsState  # noqa: E402

# Tasks which differ from run to run only by chance, such as the springs of `lqr`, are built with one fixed seed.
BUILD_SEED = 0
STATELESS_TYPES = (control.Task, control.Physics)


def names() -> dict[str, tuple[str, str]]:
    """Every task of the suite by its name here: `dmc/cartpole-swingup`."""
    return {f"dmc/{domain}-{task}": (domain, task) for domain, task in suite.ALL_TASKS}


def find(name: str) -> tuple[str, str]:
    """(domain, task); hyphens and underscores, upper and lower case are the same. Raises `UsageError`."""
    tasks = names()
    found = {plain(known): pair for known, pair in tasks.items()}.get(plain(name))
    if found is None:
        raise unknown("environment", name, tasks, hint="`foreplan envs` lists them")
    return found


def plain(name: str) -> str:
    return re.sub("[-_]", "-", name.lower())


def load(name: str, height: int = 240) -> "DmAdapter":
    """The adapter of `dmc/<domain>-<task>`. Raises `UsageError` where there is none."""
    domain, task = find(name)
    warned.listen()
    env = suite.load(domain, task, task_kwargs={"random": BUILD_SEED})
    # The motors of `lqr` declare no range; its task punishes large controls, and [-1, 1] is the suite's custom.
    return DmAdapter(name, env, action_limit=1.0 if domain == "lqr" else np.inf, height=height)


class DmAdapter:
    """Any `dm_env.Environment` with one bounded array of actions.

    Its state is captured where it is dm_control's MuJoCo physics and a task whose attributes are plain data. `height`
    is that of its pictures, in pixels.
    """

    discrete = False

    def __init__(self, name: str, env: dm_env.Environment, action_limit: float = np.inf, height: int = 240) -> None:
        spec = env.action_spec()
        low, high = (np.broadcast_to(bound, spec.shape).astype(spec.dtype) for bound in (spec.minimum, spec.maximum))
        self.action_low, self.action_high = np.maximum(low, -action_limit), np.minimum(high, action_limit)
        self._name, self.env, self._height = name, env, height
        specs = env.observation_spec()
        self._specs = dict(leaves(specs))
        self._is_flat = isinstance(specs, Mapping) and list(specs) == list(self._specs)
        self._slices, start = [], 0
        for key, leaf in self._specs.items():
            size = int(np.prod(leaf.shape))
            self._slices.append((key, leaf.shape, slice(start, start + size)))
            start += size
        self.layout = spec_layout(self._specs)
        self.physics, self.time_limit, self.terminates = None, None, True
        if type(env) is control.Environment:
            limit = env._step_limit
            self.time_limit = None if limit == float("inf") else int(np.ceil(limit))
            self.terminates = type(env.task).get_termination is not control.Task.get_termination
            if isinstance(env.physics, mujoco.Physics):
                self.physics = PhysicsState(env.physics.model.ptr, env.physics.data.ptr)
        self.exactness = self._judge()

    def _judge(self) -> Exactness:
        if self.physics is None:
            return "replay"
        try:
            self.capture()
        except state.Uncapturable:
            return "replay"
        return self.physics.exactness

    def reset(self, seed: int) -> np.ndarray:
        for owner in (self.env, getattr(self.env, "task", None)):  # dm_env has no seeds: composer and rl differ
            random = getattr(owner, "random_state", None) or getattr(owner, "random", None)
            if isinstance(random, np.random.RandomState):
                random.seed(seed)
        obs = self._flatten(self.env.reset().observation)
        if self.exactness != "replay":
            self.exactness = self._judge()  # some attributes appear only now
        return obs

    def step(self, action: np.ndarray) -> StepResult:
        timestep = self.env.step(action)
        last = timestep.last()
        terminated = last and timestep.discount == 0.0
        return self._flatten(timestep.observation), float(timestep.reward), terminated, last and not terminated

    def _flatten(self, observation: Any) -> np.ndarray:
        parts = observation if self._is_flat else dict(leaves(observation))
        flat = np.empty(self.layout.size, np.float32)
        if len(parts) != len(self._slices):
            raise ValueError(f"the observation has the parts {sorted(parts)}, promised were {sorted(self._specs)}")
        for key, shape, where in self._slices:
            part = np.asarray(parts[key])
            if part.shape != shape:
                raise ValueError(f"obs {key} has shape {part.shape}, its spec {shape}")
            flat[where] = part.ravel()
        return flat

    def capture(self) -> Snapshot:
        assert self.physics is not None
        env, task = (state.capture(owner, STATELESS_TYPES) for owner in (self.env, self.env.task))
        return {"env": env, "task": task, "physics": self.physics.save()}

    def install(self, saved: Snapshot) -> None:
        assert self.physics is not None
        state.install(self.env, saved["env"], STATELESS_TYPES)
        state.install(self.env.task, saved["task"], STATELESS_TYPES)
        self.physics.load(saved["physics"])

    def render(self) -> np.ndarray:
        physics = getattr(self.env, "physics", None)
        if physics is None:
            raise RenderUnavailable(f"{self._name} has no physics to render")
        width = self._height * 4 // 3
        return physics.render(height=self._height, width=width, camera_id=0 if physics.model.ncam else -1)

    def close(self) -> None:
        self.env.close()


def leaves(tree: Any, path: str = "") -> Any:
    """(path, leaf) of nested mappings and sequences, in their own order."""
    if isinstance(tree, (list, tuple)):
        tree = {str(i): item for i, item in enumerate(tree)}
    if not hasattr(tree, "items"):
        yield path or "obs", tree
        return
    for key, item in tree.items():
        yield from leaves(item, f"{path}/{key}" if path else str(key))


def spec_layout(specs: dict[str, Any]) -> Layout:
    sizes = [(key, int(np.prod(leaf.shape))) for key, leaf in specs.items()]
    bounds = [
        np.concatenate([np.broadcast_to(getattr(leaf, side, unbounded), leaf.shape).ravel() for leaf in specs.values()])
        for side, unbounded in (("minimum", -np.inf), ("maximum", np.inf))
    ]
    return Layout.build(sizes, *bounds)
