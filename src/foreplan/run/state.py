"""All that a turn of the loop changes, and how a checkpoint holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.core.types import Agent, Learner, Memory, Spec, TimeStep, VectorEnv
from foreplan.run import warm
from foreplan.run.checkpoint import flatten, learner_like, paths, unflatten
from foreplan.run.clock import Clock
from foreplan.run.log import Meter
from foreplan.run.randomness import Keys
from foreplan.run.settings import Settings


@dataclass
class State:
    learner: Learner
    memory: Memory
    replay: Replay
    timestep: TimeStep  # on the device
    clock: Clock
    meter: Meter


def put(tree: Any) -> Any:
    """The tree on the device, by an explicit transfer of a copy: on a CPU JAX goes on reading NumPy's own memory where
    that is aligned to 64 bytes (0.10 also with `may_alias=False`), and whoever owns it may write to it."""
    return jax.device_put(jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, tree))


def begin(agent: Agent, env: VectorEnv, settings: Settings, keys: Keys) -> State:
    """The state before the first turn."""
    fresh = jax.jit(lambda key: agent.init(env.spec, key))(keys("init"))  # op by op it takes many times as long
    return State(
        learner=warm.with_parts(agent, warm.learner(agent, settings.warm, env.spec, fresh), env, settings.warm),
        memory=agent.memory(env.spec),
        replay=warm.with_demos(empty(agent, env.spec, settings), settings.warm, env),
        timestep=put(env.reset(settings.seed)),
        clock=Clock(env.spec.num_envs, env.spec.action_repeat, agent.utd),
        meter=Meter(env.spec.num_envs),
    )


def empty(agent: Agent, spec: Spec, settings: Settings) -> Replay:
    replay = Replay.create(spec, capacity(settings, spec), extras(agent, spec))
    return replace(replay, hold_out=settings.adapt.hold_out if settings.adapt.on else 0.0)


def extras(agent: Agent, spec: Spec) -> dict[str, jax.Array]:
    """What the agent wants the buffer to keep besides, as zeros [env, ...]."""
    return agent.extras(spec) if hasattr(agent, "extras") else {}


def capacity(settings: Settings, spec: Spec) -> int:
    """Transitions: as many as the run will see, at most `settings.buffer`, a whole number in each environment."""
    turns = -(-settings.steps // (spec.action_repeat * spec.num_envs))
    return min(turns * spec.num_envs, max(settings.buffer, spec.num_envs))


def pack(state: State, env: VectorEnv | None) -> dict[str, Any]:
    """The parts of a checkpoint; without `env` a resumed run begins new episodes."""
    return {
        "learner": flatten(state.learner),
        "memory": flatten(state.memory),
        "timestep": flatten(state.timestep),
        "replay": _oldest_first(state.replay),
        "clock": state.clock.snapshot(),
        "meter": state.meter.snapshot(),
        "env": {} if env is None else {"snapshot": env.snapshot()},
    }


def unpack(parts: Mapping[str, Any], agent: Agent, env: VectorEnv, settings: Settings) -> State:
    """The state that `pack` has packed; puts `env` where it was."""
    clock = Clock(**{"utd": agent.utd} | parts["clock"])
    if (clock.num_envs, clock.action_repeat) != (env.spec.num_envs, env.spec.action_repeat):
        raise UsageError(
            f"the checkpoint has {clock.num_envs} environments and action repeat {clock.action_repeat},"
            f" the environment {env.spec.num_envs} and {env.spec.action_repeat}"
        )
    meter = Meter(clock.num_envs)
    meter.restore(parts["meter"])
    like = jax.eval_shape(lambda: empty(agent, env.spec, settings))
    replay = _fill(like, parts["replay"])
    if "snapshot" in parts["env"]:
        env.restore(parts["env"]["snapshot"])
        timestep = unflatten(_timestep_like(env.spec), parts["timestep"])
    else:
        seed = int(np.random.SeedSequence([settings.seed, clock.turns]).generate_state(1)[0]) >> 1
        timestep, replay = put(env.reset(seed)), _cut(replay)
        meter.drop(np.ones(clock.num_envs, bool))
    return State(
        learner=unflatten(learner_like(agent, env.spec), parts["learner"]),
        memory=unflatten(jax.eval_shape(lambda: agent.memory(env.spec)), parts["memory"]),
        replay=warm.with_demos(replay, settings.warm, env),
        timestep=timestep,
        clock=clock,
        meter=meter,
    )


def _timestep_like(spec: Spec) -> TimeStep:
    flags = {name: np.zeros(spec.num_envs, np.bool_) for name in ("terminated", "truncated", "first")}
    obs, reward = np.zeros((spec.num_envs, *spec.obs_shape), np.float32), np.zeros(spec.num_envs, np.float32)
    return TimeStep(obs=obs, reward=reward, **flags)


def _oldest_first(replay: Replay) -> dict[str, np.ndarray]:
    """The rows of the buffer that are filled."""
    size, head = (int(jax.device_get(x)) for x in (replay.size, replay.head))
    return {name: np.concatenate([ring[head:size], ring[:head]]) for name, ring in flatten(replay.steps).items()}


def _fill(like: Replay, saved: Mapping[str, np.ndarray]) -> Replay:
    """A buffer of the shapes of `like` with the saved rows; where it has too little room, with the newest."""
    room = like.capacity
    rows = min(len(saved["reward"]), room)

    def fill(ring: Any, name: str) -> jax.Array:
        full = np.zeros(ring.shape, ring.dtype)
        full[:rows] = saved[name][len(saved[name]) - rows :]
        return put(full)

    leaves, structure = jax.tree.flatten(like.steps)
    steps = jax.tree.unflatten(structure, map(fill, leaves, paths(like.steps)))
    head, size = put(np.array(rows % room, np.int32)), put(np.array(rows, np.int32))
    return replace(like, steps=steps, head=head, size=size)


def _cut(replay: Replay) -> Replay:
    """End the newest transition of every environment by truncation: what follows belongs to other episodes."""
    truncated = jnp.asarray(replay.steps.truncated).at[(replay.head - 1) % replay.capacity].set(True)
    return eqx.tree_at(lambda r: r.steps.truncated, replay, truncated)
