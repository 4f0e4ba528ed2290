"""The loop that all sampling planners share: ask for candidates, score them, tell the planner."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.model import Model, State, proposals, returns

P = TypeVar("P")


def plan(planner, model: Model, state: State, memory, key: PRNGKeyArray):  # type: ignore[no-untyped-def]
    """Improve `memory` by `planner.iterations` rounds of ask, score and tell in `model` from `state`.

    All candidates of all rounds share their random numbers. Returns (memory, number of invalid candidates): one whose
    return is not finite scores minus infinity and is counted.
    """
    prior_key, score_key, loop_key = jax.random.split(key, 3)
    offered = proposals(model, state, planner.horizon, planner.num_proposals, prior_key)
    score: Callable = jax.vmap(lambda actions: returns(model, state, actions, score_key))

    def round(carry, key: PRNGKeyArray):  # type: ignore[no-untyped-def]
        memory, invalid = carry
        actions = planner.ask(memory, offered, key)
        scores, bad = reject_invalid(score(actions))
        return (planner.tell(memory, actions, scores), invalid + bad), None

    keys = jax.random.split(loop_key, planner.iterations)
    (memory, invalid), _ = jax.lax.scan(round, (planner.shift(memory), jnp.zeros((), jnp.int32)), keys)
    return memory, invalid


def reject_invalid(scores: Float32[Array, "n"]) -> tuple[Float32[Array, "n"], Int32[Array, ""]]:
    """NaN and infinity become minus infinity, never a number that could win; and how many there were."""
    valid = jnp.isfinite(scores)
    return jnp.where(valid, scores, -jnp.inf), jnp.sum(~valid, dtype=jnp.int32)
