"""Gymnasium environments."""

import contextlib
import types
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from foreplan.core.errors import RenderUnavailable, UsageError, unknown
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs import gl, state
from foreplan.envs.base import StepResult, check_bounds
from foreplan.envs.layout import Layout

# An id that never ends an episode but by its time limit, whatever its version.
ENDLESS = ("Pendulum", "HalfCheetah", "Swimmer", "Reacher", "Pusher", "HumanoidStandup")
STATELESS_NAMES = ("screen", "surf", "clock", "mujoco_renderer", "model", "data", "metadata", "fullpath")
STATELESS_TYPES = (gymnasium.Env, spaces.Space, EnvSpec, types.FunctionType)


def names() -> list[str]:
    """Every registered id by its name here."""
    return [f"gym/{env_id}" for env_id in gymnasium.registry]


def usable() -> list[str]:
    """Those of `names` which can be built here and whose actions are finite, in their newest version."""
    newest: dict[str, int] = {}
    for spec in gymnasium.registry.values():
        stem = spec.id.removesuffix(f"-v{spec.version}")
        newest[stem] = max(spec.version or 0, newest.get(stem, 0))
    found = []
    for stem, version in newest.items():
        name = f"gym/{stem}-v{version}"
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            adapter = load(name)
            check_bounds(name, adapter.action_low, adapter.action_high)
            adapter.close()
            found.append(name)
    return found


def find(name: str) -> EnvSpec:
    """The specification of `gym/<id>`. Raises `UsageError` where there is none."""
    try:
        return gymnasium.spec(name.removeprefix("gym/"))
    except (gymnasium.error.Error, ImportError):
        raise unknown("environment", name, names(), hint="`foreplan envs` lists them") from None


def load(name: str, render: bool = False) -> "GymAdapter":
    """The adapter of `gym/<id>`. Raises `UsageError`."""
    gl.configure()
    spec, mode = find(name), "rgb_array" if render else None
    if "mujoco" in str(spec.entry_point):
        from foreplan.envs import warned  # imports MuJoCo, which others do without

        warned.listen()
    # The passive checker is left out: the vector environment checks the same promises at every step.
    try:
        env = gymnasium.make(spec, render_mode=mode, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"{name} needs a package that is not installed: {error}") from error
    try:
        return GymAdapter(name, env)
    except UsageError:
        env.close()
        raise


class GymAdapter:
    """Any `gymnasium.Env` with a finite Box of actions or Discrete ones.

    Its state is captured where it is known to be all there is: MuJoCo and classic control, under wrappers whose
    attributes are plain data. Any other environment is restored by replaying its actions.
    """

    def __init__(self, name: str, env: gymnasium.Env) -> None:
        self.action_low, self.action_high = action_bounds(name, env.action_space)
        self.discrete = isinstance(env.action_space, spaces.Discrete)
        self.layout = space_layout(name, env.observation_space)
        self.time_limit = time_limit(env)
        env_id = env.spec.id.split("/")[-1].split("-v")[0] if env.spec else ""
        self.terminates = env_id not in ENDLESS
        self._name, self.env, self._space = name, env, env.observation_space
        self._shape = self._space.shape if isinstance(self._space, spaces.Box) else None
        self._layers = [env]
        while isinstance(env, gymnasium.Wrapper):
            env = env.env
            self._layers.append(env)
        self.physics = physics_of(env)
        self._known = self.physics is not None or type(env).__module__.startswith("gymnasium.envs.classic_control")
        self.exactness = self._judge()

    def _judge(self) -> Exactness:
        if not self._known:
            return "replay"
        try:
            self.capture()
        except state.Uncapturable:
            return "replay"
        return "bitwise" if self.physics is None else self.physics.exactness

    def reset(self, seed: int) -> np.ndarray:
        obs, _ = self.env.reset(seed=seed)
        if self.exactness != "replay":
            self.exactness = self._judge()  # some attributes appear only now
        return self._flatten(obs)

    def step(self, action: np.ndarray) -> StepResult:
        raw = numbers(self.env.action_space, action) if self.discrete else action
        obs, reward, terminated, truncated, _ = self.env.step(raw)
        return self._flatten(obs), float(reward), bool(terminated), bool(truncated)

    def _flatten(self, obs: Any) -> np.ndarray:
        if self._shape is None:
            return np.asarray(spaces.utils.flatten(self._space, obs), np.float32)
        flat = np.array(obs, np.float32)
        if flat.shape != self._shape:
            raise ValueError(f"the observation has shape {flat.shape}, its space {self._shape}")
        return flat.reshape(-1)

    def capture(self) -> Snapshot:
        layers = [state.capture(layer, STATELESS_TYPES, STATELESS_NAMES) for layer in self._layers]
        saved: dict[str, Any] = {"layers": {str(i): layer for i, layer in enumerate(layers)}}
        if self.physics is not None:
            saved["physics"] = self.physics.save()
        return saved

    def install(self, saved: Snapshot) -> None:
        for i, layer in enumerate(self._layers):
            state.install(layer, saved["layers"][str(i)], STATELESS_TYPES, STATELESS_NAMES)
        if self.physics is not None:
            self.physics.load(saved["physics"])

    def render(self) -> np.ndarray:
        if self.env.render_mode is None:
            raise RenderUnavailable(f"{self._name} was built without render=True")
        return np.asarray(self.env.render(), np.uint8)

    def close(self) -> None:
        self.env.close()


def physics_of(env: gymnasium.Env) -> Any:
    """The `PhysicsState` of a Gymnasium MuJoCo environment; None for any other."""
    if not any(base.__module__ == "gymnasium.envs.mujoco.mujoco_env" for base in type(env).__mro__):
        return None
    from foreplan.envs.physics import PhysicsState  # imports MuJoCo, which others do without

    return PhysicsState(env.model, env.data)  # type: ignore[attr-defined]


def time_limit(env: Any) -> int | None:
    """Environment steps until truncation, where the environment says so."""
    return env.spec.max_episode_steps if env.spec is not None else None


def action_bounds(name: str, space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of a Box, or of the one-hot vectors that stand for Discrete actions. Raises `UsageError`."""
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        bound = np.ones(int(space.n), np.float32)
        return -bound, bound
    raise UsageError(f"{name} has {type(space).__name__} actions; accepted: continuous (Box) and Discrete ones")


def numbers(space: spaces.Space, actions: np.ndarray) -> Any:
    """The Discrete actions, integer [...], that vectors [..., action] stand for: the number of the largest entry."""
    return int(getattr(space, "start", 0)) + np.argmax(actions, axis=-1)


def space_layout(name: str, space: spaces.Space) -> Layout:
    """Parts are named by their path in Dict and Tuple spaces, in the order in which Gymnasium flattens them."""
    flat = spaces.utils.flatten_space(space) if space.is_np_flattenable else None
    if not isinstance(flat, spaces.Box):
        raise UsageError(f"{name}: an observation of {space} has no fixed size")
    return Layout.build(list(parts("", space)), flat.low, flat.high)


def parts(path: str, space: spaces.Space) -> Any:
    children: dict[str, spaces.Space] = {}
    if isinstance(space, spaces.Dict):
        children = dict(space.spaces)
    elif isinstance(space, spaces.Tuple):
        children = {str(i): child for i, child in enumerate(space.spaces)}
    for key, child in children.items():
        yield from parts(f"{path}/{key}" if path else str(key), child)
    if not children:
        yield path or "obs", spaces.utils.flatdim(space)
