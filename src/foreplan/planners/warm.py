"""Warm starts: how the last plan becomes the next one's beginning."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

Forward = Callable[[Array], Array]  # [..., horizon, action] one step on


def held(plan: Float32[Array, "*any horizon action"]) -> Float32[Array, "*any horizon action"]:
    """A plan one step on, its last action repeated."""
    return jnp.concatenate([plan[..., 1:, :], plan[..., -1:, :]], axis=-2)


def ended(plan: Float32[Array, "*any horizon action"]) -> Float32[Array, "*any horizon action"]:
    """A plan one step on, at its end an action of zero."""
    return jnp.concatenate([plan[..., 1:, :], jnp.zeros_like(plan[..., :1, :])], axis=-2)


def around(
    centre: Float32[Array, "horizon action"], noise: Float32[Array, "n horizon action"]
) -> Float32[Array, "n horizon action"]:
    return jnp.clip(centre[None] + noise, -1.0, 1.0)


def known(*groups: Array | None) -> Float32[Array, "n horizon action"]:
    """Plans and groups of plans that are candidates as they are."""
    given = [group for group in groups if group is not None]
    return jnp.concatenate([group[None] if group.ndim == 2 else group for group in given])


def disturbed(action: Float32[Array, "action"], std: Array, key: PRNGKeyArray) -> Float32[Array, "action"]:
    """An action with noise, to explore."""
    return jnp.clip(action + std * jax.random.normal(key, action.shape, jnp.float32), -1.0, 1.0)


def keep_unless_valid(told, memory, best: Array):  # type: ignore[no-untyped-def]
    """What was told, unless not even the best of all candidates is valid."""
    return jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(best), new, old), told, memory)
