"""From a name to an environment; what is bad is refused before anything is built.

    dmc/<domain>-<task>       dm_control's suite               action repeat 2
    gym/<id>                  any registered Gymnasium id      action repeat 1
    jax/<name>                JAX-native, also models to plan in
    package.module:factory    your own: factory() gives a gymnasium.Env, a gymnasium VectorEnv, a dm_env.Environment
                              or an object with the methods of `foreplan.envs.base.Env`

Libraries are imported where they are needed: a worker that steps MuJoCo need not import JAX, nor the reverse.
"""

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foreplan.core.errors import EnvError, UsageError, unknown
from foreplan.core.named import load
from foreplan.envs.base import AdaptedEnv, Adapter, Env
from foreplan.envs.batch import Batch

if TYPE_CHECKING:
    from foreplan.core.types import VectorEnv

JAX = {"jax/pendulum": "Pendulum", "jax/cartpole-swingup": "CartpoleSwingup", "jax/cartpole-pets": "CartpolePETS"}
FORMS = "accepted: dmc/<domain>-<task>, gym/<id>, jax/<name>, package.module:factory; `foreplan envs` lists them"
SLOW = 1e-3  # seconds a step above which worker processes pay for themselves


def make(
    name: str,
    num_envs: int = 1,
    action_repeat: int | None = None,
    asynchronous: bool | Literal["auto"] = False,
    render: bool = False,
    height: int = 240,
) -> "VectorEnv":
    """`num_envs` copies of the environment called `name`.

    `asynchronous` steps each copy in a process of its own; "auto" does so where a step takes more than a millisecond.
    `render` must be set for Gymnasium environments that are to be drawn. `height` is that of pictures, in pixels, where
    the library lets one choose and the environment lives in this process. Raises `UsageError`, or `EnvError` where the
    environment itself fails.
    """
    positive("num_envs", num_envs)
    if action_repeat is not None:
        positive("action_repeat", action_repeat)
    if asynchronous not in (False, True, "auto"):
        raise UsageError(f"asynchronous is {asynchronous!r}; accepted: False, True, 'auto'")
    validate(name)
    if name in JAX:
        from foreplan.envs.jax_vector import JaxVectorEnv

        return JaxVectorEnv(name, jax_env(name), num_envs, action_repeat or 1, height)
    if asynchronous is True:
        return in_workers(name, num_envs, action_repeat, render)
    first = instantiate(name, render, height)
    if hasattr(first, "single_action_space"):
        from foreplan.envs.gymnasium_vector import GymVectorEnv

        return GymVectorEnv(name, first, num_envs, action_repeat or 1)
    env = adapt(name, first, action_repeat)
    if asynchronous == "auto" and num_envs > 1 and seconds_per_step(env) > SLOW:
        env.close()
        return in_workers(name, num_envs, action_repeat, render)
    return in_process(name, [env, *(build(name, action_repeat, render, height) for _ in range(num_envs - 1))])


def in_process(name: str, envs: list[Env]) -> "VectorEnv":
    from foreplan.envs.vector import HostVectorEnv, Local

    batch = Batch(envs)
    return HostVectorEnv(name, batch.spec, batch.exactness, [Local(batch)], [len(envs)])


def hosts(env: Any) -> list[Env]:
    """The single environments inside a vector environment, as far as they live in this process."""
    return [host for part in getattr(env, "parts", []) for host in getattr(part, "envs", [])]


def in_workers(name: str, num_envs: int, action_repeat: int | None, render: bool) -> "VectorEnv":
    from foreplan.envs.vector import HostVectorEnv, Remote

    workers = [Remote(name, i, build_batch, name, action_repeat, render, i) for i in range(num_envs)]
    try:
        claims = [worker.result() for worker in workers]
    except Exception:
        for worker in workers:
            worker.close()
        raise
    spec, exactness = claims[0]
    return HostVectorEnv(name, spec, exactness, workers, [1] * num_envs)


def build_batch(name: str, action_repeat: int | None, render: bool, index: int) -> Batch:
    """What one worker holds."""
    return Batch([build(name, action_repeat, render)], first=index)


def build(name: str, action_repeat: int | None = None, render: bool = False, height: int = 240) -> Env:
    """One environment of the host's. `jax/` environments are built as vectors only."""
    validate(name)
    made = instantiate(name, render, height)
    if hasattr(made, "single_action_space"):
        raise UsageError(f"{name} is a vector environment already: it cannot be split into worker processes")
    return adapt(name, made, action_repeat)


def instantiate(name: str, render: bool, height: int) -> Any:
    """An adapter, or whatever a user's factory gives."""
    try:
        if name.startswith("dmc/"):
            from foreplan.envs import dm_control

            return dm_control.load(name, height)
        if name.startswith("gym/"):
            from foreplan.envs import gymnasium

            return gymnasium.load(name, render)
        return factory(name)()
    except UsageError:
        raise
    except Exception as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        raise EnvError(name, 0, 0, "build", detail) from error


def adapt(name: str, made: Any, action_repeat: int | None) -> Env:
    """An `Env` from an adapter or from what a user's factory gave."""
    if isinstance(made, Env):
        if action_repeat not in (None, made.spec.action_repeat):
            raise UsageError(f"{name} repeats actions {made.spec.action_repeat} times itself, not {action_repeat}")
        return made
    if hasattr(made, "action_spec") and hasattr(made, "observation_spec"):
        from foreplan.envs.dm_control import DmAdapter

        made = DmAdapter(name, made)
    elif hasattr(made, "action_space") and hasattr(made, "observation_space"):
        from foreplan.envs.gymnasium import GymAdapter

        made = GymAdapter(name, made)
    elif not isinstance(made, Adapter):
        raise UsageError(
            f"{name} gave a {type(made).__name__}; accepted: gymnasium.Env, gymnasium.vector.VectorEnv, "
            "dm_env.Environment, or an object with the methods of foreplan.envs.base.Env"
        )
    return AdaptedEnv(name, made, action_repeat or (2 if name.startswith("dmc/") else 1))


def jax_env(name: str) -> Any:
    """The JAX-native environment called `name`: a `Model` to act in and to plan in."""
    from foreplan.envs import jax_native

    if name not in JAX:
        raise unknown("environment", name, JAX)
    return getattr(jax_native, JAX[name])()


def factory(name: str, kind: str = "environment") -> Any:
    """The callable that `package.module:factory` names. Raises `UsageError`, which says what `kind` of thing was
    wanted."""
    return load(name, kind, "factory" if kind == "environment" else kind)


def validate(name: str) -> None:
    """Raise `UsageError` if no environment has this name."""
    if name.startswith("dmc/"):
        from foreplan.envs import dm_control

        dm_control.find(name)
    elif name.startswith("gym/"):
        from foreplan.envs import gymnasium

        gymnasium.find(name)
    elif ":" in name and not name.startswith("jax/"):
        factory(name)
    elif name not in JAX:
        raise unknown("environment", name, registered(), hint=FORMS)


def registered() -> list[str]:
    """Every name that is known without building anything."""
    from foreplan.envs import dm_control, gymnasium

    return [*dm_control.names(), *gymnasium.names(), *JAX]


def available() -> list[str]:
    """The names of all environments that can be acted in here, of Gymnasium's those whose actions are Box or Discrete
    and whose dependencies are installed; each of these is built once to see."""
    from foreplan.envs import dm_control, gymnasium

    return [*sorted(dm_control.names()), *sorted(gymnasium.usable()), *sorted(JAX)]


def positive(what: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{what} is {value!r}; it must be a whole number of at least 1")


def seconds_per_step(env: Env, steps: int = 10) -> float:
    """Measured by acting a little; the next `reset` with a seed leaves no trace of it."""
    env.reset(0)
    action = np.zeros(env.spec.action_dim, np.float32)
    began = time.perf_counter()
    done = 0
    ended = False
    while done < steps and not ended:
        _, _, terminated, truncated = env.step(action)
        done, ended = done + 1, terminated or truncated
    return (time.perf_counter() - began) / done
