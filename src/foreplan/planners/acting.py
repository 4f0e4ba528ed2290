"""Acting by planning anew in every state: of all environments at once, memory fresh where an episode begins."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.learning import where_first
from foreplan.core.types import Memory, Metrics, Spec, TimeStep
from foreplan.planners.sampling import plan

LookAhead = Callable[[Array, PRNGKeyArray], tuple[Any, Any]]  # obs [obs], key -> model, its state there


def memories(planner: Any, spec: Spec) -> Memory:
    """A warm start for each environment, leaves [env, ...]."""
    fresh = planner.init(spec.action_dim)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (spec.num_envs, *leaf.shape)), fresh)


def act(
    planner: Any, look_ahead: LookAhead, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
) -> tuple[Float32[Array, "env action"], Memory, Metrics]:
    """The first actions of plans in what `look_ahead` gives; traced by whoever calls it."""
    action_dim = jax.eval_shape(jax.vmap(planner.planned), memory).shape[-1]

    def act_one(obs: Array, first: Array, memory: Memory, key: PRNGKeyArray) -> tuple[Array, Memory, Array]:
        model_key, plan_key, act_key = jax.random.split(key, 3)
        memory = where_first(first, planner.init(action_dim), memory)
        model, state = look_ahead(obs, model_key)
        memory, invalid = plan(planner, model, state, memory, plan_key)
        return planner.act(memory, explore, act_key), memory, invalid

    keys = jax.random.split(key, timestep.first.shape[0])
    obs, first = jnp.asarray(timestep.obs), jnp.asarray(timestep.first)
    actions, memory, invalid = jax.vmap(act_one)(obs, first, memory, keys)
    return actions, memory, {"invalid_plans": jnp.sum(invalid)}
