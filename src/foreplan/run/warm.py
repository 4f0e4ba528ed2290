"""Warm starts, for every agent: demonstrations in the replay buffer, and what another run has learned.

--demos PATH    stand beside the agent's own data, with a share in every batch; models are fitted to them too
--init RUN      a run of the same agent: its learner; of another agent: its policy acts in the seed steps
--parts DIR     dynamics, reward and continuation that were fitted beforehand, fine-tuned or, with --freeze, left alone
--value PART    what lies beyond the horizon of a planner, the same
--policy PART   acts in the seed steps
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from foreplan.agents.experts import Expert, PolicyExpert
from foreplan.agents.fitted import Fitted
from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.core.types import Agent, Learner, Spec, Step, TimeStep, VectorEnv
from foreplan.data import names
from foreplan.data.dataset import Dataset
from foreplan.run import checkpoint
from foreplan.run.experts import of_run
from foreplan.run.parts import Kind, Part, load, load_all
from foreplan.run.settings import Warm, read_config
from foreplan.worlds.fitting import NETWORKS, WorldFitting
from foreplan.worlds.units import merged
from foreplan.worlds.value import ValueNetwork


def with_demos(replay: Replay, warm: Warm, env: VectorEnv) -> Replay:
    """The buffer with the demonstrations that are asked for. Raises UsageError where they are of another space."""
    if warm.demos is None:
        return replay
    data = names.load(warm.demos)
    if not len(data):
        raise UsageError(f"{warm.demos} is empty")
    data.check_spec(env.spec, env.name, warm.demos)
    return replace(replay, demos=buffer(data, replay), demo_share=warm.demo_share)


def buffer(data: Dataset, like: Replay) -> Replay:
    """A full buffer of the data, with the extras of `like`. Episodes have numbers that no run gives, and one that was
    left open is truncated."""
    last = np.append(data.episode[1:] != data.episode[:-1], True)
    steps = {
        "obs": data.obs,
        "action": data.action,
        "reward": data.reward,
        "terminated": data.terminated,
        "truncated": data.truncated | (last & ~data.terminated),
        "next_obs": data.next_obs,
        "episode": -2 - np.cumsum(np.append(0, last[:-1]), dtype=np.int32),
    }
    arrays = {name: jnp.asarray(array)[:, None] for name, array in steps.items()}

    def extra(name: str, ring: Array) -> Array:
        known = data.arrays.get(name)
        return jnp.zeros((len(data), 1, *ring.shape[2:]), ring.dtype) if known is None else jnp.asarray(known)[:, None]

    extras = {name: extra(name, ring) for name, ring in like.steps.extras.items()}
    full = jnp.asarray(len(data), jnp.int32)
    return Replay(steps=Step(**arrays, extras=extras), head=jnp.zeros((), jnp.int32), size=full)


def prepared(agent: Any, warm: Warm) -> Agent:
    """The agent, its world and value in the form of the parts that it begins with. Raises UsageError where it has no
    such parts, or they cannot stand side by side."""
    parts = begun_with(warm)
    if "value" not in parts and getattr(agent, "value", None) == "given":
        raise UsageError("the agent's value is 'given', and none is: name it with --value")
    if not parts:
        return agent
    if not isinstance(getattr(agent, "fitting", None), WorldFitting):
        raise UsageError(f"{type(agent).__name__} has no parts to begin with; mbmpc, pets and mbpo have")
    if "value" in parts:
        agent = _valued(agent, parts.pop("value"), warm.freeze)
    if not parts:
        return agent
    for kind in parts:
        known = getattr(agent, kind, "learned")
        if known != "learned":
            raise UsageError(f"the {kind} is {known} and not learned: there is no network for the part")
    forms = {part.form: kind for kind, part in parts.items()}
    if len(forms) > 1:
        one, other = list(forms)[:2]
        raise UsageError(f"the {forms[one]} has {one}, the {forms[other]} {other}: parts of one world must be alike")
    names = tuple(parts)
    fitting = replace(agent.fitting, kept=names, frozen=names if warm.freeze else ())
    return replace(agent, network=next(iter(forms)), fitting=fitting)


def _valued(agent: Any, part: Part, freeze: bool) -> Agent:
    """The agent with a value beyond its horizon in the form of the part. Raises UsageError where it has no place for
    it."""
    if not isinstance(agent, Fitted):
        raise UsageError(f"{type(agent).__name__} plans with no value to begin with; mbmpc and pets do")
    if not isinstance(part.form, ValueNetwork):
        raise UsageError("a run's critics cannot be fitted further; fit a value: foreplan fit RUN --parts value")
    if agent.value == "plan":
        raise UsageError("a value that is planned begins anew at every fit; accepted: none, return, lambda, td")
    target = "given" if freeze or agent.value == "none" else agent.value
    discount = round(float(part.module.discount), 6)
    return replace(agent, value=target, value_network=part.form, discount=discount)


def begun_with(warm: Warm) -> dict[Kind, Part]:
    """The parts that are asked for; of a folder those that a world has. Raises UsageError where they are none."""
    parts = load_all(warm.parts, {name: getattr(warm, name) for name in (*NETWORKS, "value")})  # type: ignore[misc]
    wanted = (*NETWORKS, "value") if warm.value else NETWORKS
    found = {kind: part for kind, part in parts.items() if kind in wanted}
    if parts and not found:
        raise UsageError(f"{warm.parts} holds neither dynamics nor reward nor continuation to begin with")
    return found


def with_parts(agent: Agent, learner: Learner, env: VectorEnv, warm: Warm) -> Learner:
    """The learner, with the parts that are asked for. Raises UsageError where they do not fit."""
    parts = begun_with(warm)
    for part in parts.values():
        part.check(env.name, env.spec)
    if "value" in parts:
        learner = replace(learner, value=parts.pop("value").module)
    if not parts:
        return learner
    world = learner.world
    for kind in parts:
        if kind not in world.nets:
            raise UsageError(f"episodes of {env.name} cannot terminate: it needs no {kind}")
    world = merged(world, {kind: part.module for kind, part in parts.items()})
    return replace(learner, world=world)


OF_A_RUN = {"ends", "seen", "shown"}  # of a learner: what it found out about its user's functions, and how much it has
#                                       counted of its buffer; neither holds for another run


def learner(agent: Agent, warm: Warm, spec: Spec, fresh: Learner) -> Learner:
    """`fresh`, or what a run of the same agent has learned."""
    if warm.init is None or not _alike(agent, warm.init):
        return fresh
    parts = checkpoint.load(checkpoint.newest_whole(Path(warm.init) / checkpoint.FOLDER, print), "learner")
    own = {name: array for name, array in checkpoint.flatten(fresh).items() if OF_A_RUN & set(name.split("/"))}
    try:
        return checkpoint.unflatten(fresh, parts["learner"] | own)
    except UsageError as error:
        raise UsageError(f"{warm.init} cannot be begun from: {error}") from None


def _alike(agent: Agent, run: str) -> bool:
    """Whether that is a run of the same agent."""
    return type(read_config(Path(run))[0]) is type(agent)


def guide(agent: Agent, warm: Warm, env: str, spec: Spec) -> Expert | None:
    """Who acts in the seed steps instead of chance: a policy, or a run of another agent; None where there is none.
    Raises UsageError where it cannot act here."""
    if warm.policy is not None:
        part = load(warm.policy, "policy")
        part.check(env, spec)
        return PolicyExpert(f"part:{warm.policy}", part.module)
    if warm.init is None or _alike(agent, warm.init):
        return None
    return of_run(Path(warm.init), env, spec)


def led(guide: Expert, spec: Spec, timestep: TimeStep, key: PRNGKeyArray) -> Array:
    """What the guide does, float32 [env, action], with no memory of its last decision: nothing but the run's state
    decides what comes."""
    actions, _, _ = guide.label(timestep, guide.memory(spec), key, np.ones(spec.num_envs, np.bool_))
    return jax.device_put(actions)
