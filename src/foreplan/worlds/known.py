"""A user's functions, in place of what need not be learned: of ONE (observation, action, next observation), in JAX.

reward        one float32
terminated    one bool: whether the episode ends with this transition

A wrong termination function spoils all that is learned from a model, so one is verified before it is used, `Ends`:
every real transition must agree, at each fit anew. The continuation is learned beside it in any case, and counts where
the function does not.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32

from foreplan.core.errors import UsageError
from foreplan.core.fitting import recent, transitions
from foreplan.core.named import load
from foreplan.core.replay import Replay
from foreplan.core.types import Metrics, Spec

Obs = Float32[Array, "obs"]
Action = Float32[Array, "action"]
Known = Callable[[Obs, Action, Obs], Array]  # of (observation, action, next observation)
KINDS: dict[str, Any] = {"reward": jnp.float32, "terminated": jnp.bool_}  # and what each gives


def known(name: str, what: str) -> Known | None:
    """The function that "module:function" names; None for "learned". Raises `UsageError` where there is none."""
    return None if name == "learned" else load(name, what)


def check(name: str, what: str, spec: Spec) -> None:
    """Raise `UsageError` where the function of this name does not give one number of its kind."""
    function = known(name, what)
    if function is None:
        return
    shapes = spec.obs_shape, (spec.action_dim,), spec.obs_shape
    try:
        given = jax.eval_shape(function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    except Exception as error:  # a user's function fails in its own way
        detail = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise UsageError(f"{what} {name} is no function of (obs, action, next obs) to JAX: {detail}") from error
    shape, dtype = getattr(given, "shape", type(given).__name__), getattr(given, "dtype", "")
    if (shape, dtype) != ((), KINDS[what]):
        accepted = np.dtype(KINDS[what]).name
        raise UsageError(f"{what} {name} gives {shape} {dtype}; accepted: one {accepted}, of shape ()")


def stored(replay: Replay) -> Bool[Array, "capacity"]:
    """Which rows of `transitions(replay)` are real, demonstrations among them."""
    return jnp.concatenate([recent(part, None) for part in replay.parts])


def reward_error(replay: Replay, name: str) -> Metrics:
    """`known_reward_error`, the largest difference between the reward of this name and what was really paid; nothing
    for "learned". Raises `UsageError` where the function gives what is not a number."""
    function = known(name, "reward")
    if function is None:
        return {}
    error = _reward_error(replay, function)
    if not np.isfinite(jax.device_get(error)):
        raise UsageError(f"reward: {name} gives what is not finite")
    return {"known_reward_error": error}


@partial(jax.jit, static_argnums=1)
def _reward_error(replay: Replay, function: Known) -> Float32[Array, ""]:
    data = transitions(replay)
    given = said(function, data.obs, data.action, data.next_obs)
    return jnp.max(jnp.where(stored(replay), jnp.abs(given - data.reward), 0.0))


def said(function: Known, obs: Any, action: Any, after: Any) -> Array:
    """What the function says of each of many transitions, leaves [n, ...]."""
    return jax.vmap(function)(*(jnp.asarray(x) for x in (obs, action, after)))


# ---------------------------------------------------------------------- where episodes end
class Ends(eqx.Module):
    """The termination function called `name`, and what real transitions have said of it so far. One that was wrong
    once is wrong for ever. Stacked with the members of an ensemble, leaves are [members]."""

    name: str = eqx.field(static=True)
    asked: Bool[Array, "*m"]  # whether any fit has verified it yet
    refuted: Bool[Array, "*m"]  # whether a real transition has disagreed

    @classmethod
    def of(cls, name: str, spec: Spec) -> "Ends | None":
        """Not verified yet; None for "learned". Raises `UsageError` where the function cannot be used."""
        check(name, "terminated", spec)
        return None if name == "learned" else cls(name, jnp.zeros((), jnp.bool_), jnp.zeros((), jnp.bool_))

    @property
    def trusted(self) -> Bool[Array, "*m"]:
        return self.asked & ~self.refuted

    def going_on(self, learned: Float32[Array, ""], obs: Obs, action: Action, after: Obs) -> Float32[Array, ""]:
        """The probability that the episode goes on: 0 or 1 by the function where it is trusted, else as `learned`."""
        function = load(self.name, "terminated")
        return jnp.where(self.trusted, 1.0 - function(obs, action, after).astype(jnp.float32), learned)

    def verified(self, replay: Replay) -> tuple["Ends", Metrics]:
        """Asked about every real transition. Called from Python: the first time that any disagrees, it warns.

        Metrics: `known_end_error`, the share of transitions of whose end the function is wrong, and `known_end_used`,
        1 where it counts and 0 where the learned continuation does."""
        ends, counts, metrics = _asked(self, replay)
        (missed, invented, number), before = jax.device_get((counts, self.refuted))
        if missed + invented and not before:
            warnings.warn(
                f"terminated {self.name} is wrong about {missed + invented:,} of {number:,} real transitions"
                f" ({missed:,} ends missed, {invented:,} invented): the learned continuation counts instead",
                stacklevel=2,
            )
        return ends, metrics


@jax.jit
def _asked(ends: Ends, replay: Replay) -> tuple[Ends, tuple[Int32[Array, ""], ...], Metrics]:
    """What the function is worth, (ends that it misses, ends that it invents, real transitions), and the metrics."""
    data, real = transitions(replay), stored(replay)
    given = said(load(ends.name, "terminated"), data.obs, data.action, data.next_obs)
    truth = jnp.asarray(data.terminated)
    missed, invented, number = (jnp.sum(real & x, dtype=jnp.int32) for x in (truth & ~given, given & ~truth, real))
    ends = replace(ends, asked=jnp.ones_like(ends.asked), refuted=ends.refuted | (missed + invented > 0))
    share = (missed + invented).astype(jnp.float32) / jnp.maximum(1, number).astype(jnp.float32)
    metrics = {"known_end_error": share, "known_end_used": ends.trusted.astype(jnp.float32)}
    return ends, (missed, invented, number), metrics
