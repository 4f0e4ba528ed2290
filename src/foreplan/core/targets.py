"""What a value is fitted to: n-step, lambda- and Monte-Carlo returns of what the buffer keeps. All stop where an
episode ends: nothing comes after termination, and for what truncation has cut off the value stands."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.learning import over_batch
from foreplan.core.replay import Replay, Window

Discount = float | Float32[Array, ""]


def lambda_returns(
    reward: Float32[Array, "time *of"],
    terminated: Bool[Array, "time *of"],
    last: Bool[Array, "time *of"],
    value: Float32[Array, "time *of"],
    discount: Discount,
    weight: float,
) -> Float32[Array, "time *of"]:
    """Of each transition G = r + discount (1 - terminated) ((1 - weight) V + weight G'), where V, in `value`, is of the
    state it leads to, and G' of the transition after it; of the `last` that are known V stands for both (Sutton and
    Barto 2018, section 12.2). A weight of 1 gives all rewards and the last value, 0 one-step targets."""

    def back(later: Array, at: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        reward, terminated, last, value = at
        ahead = jnp.where(last, value, (1.0 - weight) * value + weight * later)
        found = reward + discount * jnp.where(terminated, 0.0, ahead)
        return found, found

    rows = reward, terminated, last, value
    return jax.lax.scan(back, jnp.zeros_like(value[0]), rows, reverse=True)[1]


def n_step(
    window: Window, discount: Discount
) -> tuple[Float32[Array, "batch"], Float32[Array, "batch"], Int32[Array, "batch"]]:
    """(return, discount, row) of windows, so that return + discount * V(obs[row]) is the n-step target of V at their
    first observation. It stops where the episode ends: the discount is 0 after termination, and that of the steps that
    were taken after truncation (Sutton and Barto 2018, equation 7.1)."""
    real = window.mask.astype(jnp.float32)
    powers = discount ** jnp.arange(window.reward.shape[1], dtype=jnp.float32)
    length = jnp.sum(window.mask, axis=1, dtype=jnp.int32)
    ended = window.terminated[jnp.arange(length.shape[0]), length - 1]
    beyond = jnp.where(ended, 0.0, discount ** length.astype(jnp.float32))
    return (window.reward * real) @ powers, beyond, length


def td_lambda(
    window: Window, values: Float32[Array, "batch horizon"], discount: Discount, weight: float
) -> Float32[Array, "batch"]:
    """The lambda-return of the first transition of windows, from the values of the states that each leads to: a mean of
    1-step to H-step targets (Sutton and Barto 2018, equation 12.9), which stops where the episode ends."""
    goes_on = jnp.concatenate([window.mask[:, 1:], jnp.zeros_like(window.mask[:, :1])], axis=1)
    reward, terminated, last, values = (row.T for row in (window.reward, window.terminated, ~goes_on, values))
    return lambda_returns(reward, terminated, last, values, discount, weight)[0]


def returns_to_go(
    replay: Replay, values: Float32[Array, "capacity env"], discount: Discount, weight: float
) -> Float32[Array, "capacity env"]:
    """`lambda_returns` of each transition, in the rows of the buffer, demonstrations apart; `values` are those of their
    `next_obs`. A weight of 1 gives Monte-Carlo returns. Where an episode was truncated, or the buffer ends, what would
    have come is unknown: the value stands for it, as it does not after termination."""
    order = (replay.head - replay.size + jnp.arange(replay.capacity, dtype=jnp.int32)) % replay.capacity
    steps, values = jax.tree.map(lambda ring: ring[order], (replay.steps, values))
    newest = jnp.arange(replay.capacity, dtype=jnp.int32) == replay.size - 1
    last = newest[:, None] | steps.truncated
    found = lambda_returns(steps.reward, steps.terminated, last, values, discount, weight)
    return jnp.zeros_like(found).at[order].set(found)


def multi_step(
    window: Window,
    horizon: int,
    value: Callable[[Float32[Array, "obs"], PRNGKeyArray], Float32[Array, ""]],
    discount: Discount,
    key: PRNGKeyArray,
    weight: float = 1.0,
) -> Float32[Array, "batch horizon"]:
    """Targets of the first `horizon` transitions of windows of `horizon` + n - 1: the n-step target of each or, with a
    `weight` below 1, its lambda-return of at most n steps. `value` is of one observation."""
    steps = window.reward.shape[1] - horizon + 1
    parts = [window.part(t, steps) for t in range(horizon)]
    if weight < 1.0:
        values = over_batch(value)(window.obs[:, 1:], jax.random.split(key, window.reward.shape))
        each = [td_lambda(part, values[:, t : t + steps], discount, weight) for t, part in enumerate(parts)]
        return jnp.stack(each, axis=1)
    found = zip(*(n_step(part, discount) for part in parts), strict=True)
    sums, discounts, lengths = (jnp.stack(leaf, axis=1) for leaf in found)
    rows = jnp.arange(horizon, dtype=jnp.int32)[None, :] + lengths
    ends = window.obs[jnp.arange(rows.shape[0])[:, None], rows]
    return sums + discounts * over_batch(value)(ends, jax.random.split(key, rows.shape))
