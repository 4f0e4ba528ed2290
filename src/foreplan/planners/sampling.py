"""The loop that all sampling planners share: ask for candidates, score them, tell the planner.

A planner is a frozen dataclass with

    horizon, num_proposals      steps looked ahead; candidates of the model's own prior
    populations                 candidates of each round, a tuple
    init(action_dim) -> memory  at the beginning of an episode
    shift(memory)               the last plan one step on: the warm start
    ask(memory, proposals, key, round) -> actions [n, horizon, action] in [-1, 1]
    tell(memory, actions, returns) -> memory
    planned(memory) -> actions [horizon, action]: the plan itself
    act(memory, explore, key) -> action: the plan's first; exploring, a disturbed one

and never knows whether a model or a simulator has scored its candidates.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.model import Model, State, proposals, returns
from foreplan.planners.risk import Draws, Members


def plan(planner, model: Model | Members | Draws, state: State, memory, key: PRNGKeyArray):  # type: ignore[no-untyped-def]
    """Improve `memory` by rounds of ask, score and tell in `model` from `state`; compiled by whoever calls it.

    All candidates of all rounds share their random numbers. Returns (memory, number of invalid candidates): one whose
    return is not finite scores minus infinity and is counted.
    """
    first = model.first() if isinstance(model, Members | Draws) else model
    if hasattr(planner, "plan"):  # one that needs more than returns: of an ensemble it sees the first member
        return planner.plan(first, state, memory, key)
    prior_key, score_key, loop_key = jax.random.split(key, 3)
    offered = proposals(first, state, planner.horizon, planner.num_proposals, prior_key)

    def score(actions: Float32[Array, "n horizon action"]) -> Float32[Array, "n"]:
        if isinstance(model, Members | Draws):
            return model.score(state, actions, score_key)
        return jax.vmap(lambda plan: returns(model, state, plan, score_key))(actions)

    return search(planner, score, memory, loop_key, offered)


def search(planner, score: Callable, memory, key: PRNGKeyArray, offered=None):  # type: ignore[no-untyped-def]
    """`plan` for any `score`: actions [n, horizon, action] -> returns [n], traced by JAX."""
    if hasattr(planner, "search"):  # one that needs the gradient of returns
        return planner.search(score, memory, key, offered)

    def improve(carry, key: PRNGKeyArray, round: int = 0):  # type: ignore[no-untyped-def]
        memory, invalid = carry
        actions = planner.ask(memory, offered, key, round)
        scores, bad = reject_invalid(score(actions))
        return (planner.tell(memory, actions, scores), invalid + bad), None

    populations = planner.populations
    keys = jax.random.split(key, len(populations))
    carry = planner.shift(memory), jnp.zeros((), jnp.int32)
    if len(set(populations)) == 1:
        return jax.lax.scan(improve, carry, keys)[0]
    for round in range(len(populations)):
        carry, _ = improve(carry, keys[round], round)
    return carry


def plan_on_host(planner, score: Callable[[np.ndarray], np.ndarray], memory, key: PRNGKeyArray, offered=None):  # type: ignore[no-untyped-def]
    """`search` with a `score` of NumPy arrays, such as a simulator's: a plain loop, one transfer a round."""
    told = list(rounds_on_host(planner, score, memory, key, offered))
    return told[-1][0], sum(bad for _, bad in told)


def rounds_on_host(  # type: ignore[no-untyped-def]
    planner, score: Callable[[np.ndarray], np.ndarray], memory, key: PRNGKeyArray, offered=None
) -> Iterator[tuple[Any, int]]:
    """(memory, invalid candidates) after each round, so that whoever is short of time can stop. Raises `UsageError`
    for a planner that needs more than returns."""
    if not hasattr(planner, "ask"):
        raise UsageError(
            f"{type(planner).__name__} needs a differentiable model: a simulator only says what plans return"
        )
    memory, actions, keys = _begin(planner, memory, offered, key)
    for round in range(1, len(planner.populations) + 1):
        scores = np.asarray(score(np.asarray(actions)), np.float32)
        bad = int(np.sum(~np.isfinite(scores)))
        memory, actions = _turn(planner, memory, actions, scores, offered, keys, round)
        yield memory, bad


@partial(jax.jit, static_argnums=0)
def _begin(planner, memory, offered, key: PRNGKeyArray):  # type: ignore[no-untyped-def]
    """The warm start, the first round's candidates and the keys of all rounds."""
    keys = jax.random.split(key, len(planner.populations))
    memory = planner.shift(memory)
    return memory, planner.ask(memory, offered, keys[0], 0), keys


@partial(jax.jit, static_argnums=(0, 6))
def _turn(planner, memory, actions: Array, scores: Array, offered, keys: Array, round: int):  # type: ignore[no-untyped-def]
    """What has been learned of one round's candidates, and the next round's."""
    memory = planner.tell(memory, actions, reject_invalid(scores)[0])
    more = round < len(planner.populations)
    return memory, planner.ask(memory, offered, keys[round], round) if more else None


def reject_invalid(scores: Float32[Array, "n"]) -> tuple[Float32[Array, "n"], Int32[Array, ""]]:
    """NaN and infinity become minus infinity, never a number that could win; and how many there were."""
    valid = jnp.isfinite(scores)
    return jnp.where(valid, scores, -jnp.inf), jnp.sum(~valid, dtype=jnp.int32)
