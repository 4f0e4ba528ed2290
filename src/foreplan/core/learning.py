"""Mechanism of learning and acting, shared by all agents: a gradient step, G updates as one scan, one rule for all
environments, moving averages."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, PRNGKeyArray

from foreplan.core.replay import UNIFORM, Priority, Replay, Window, draw, sample
from foreplan.core.types import Learner, Metrics

T = TypeVar("T")
A = TypeVar("A")


def descend(
    loss: Callable[[T], tuple[Float32[Array, ""], A]],
    parameters: T,
    optimiser: optax.GradientTransformation,
    state: optax.OptState,
) -> tuple[A, T, optax.OptState]:
    """One gradient step on `loss(parameters) -> (loss, auxiliary)`: (auxiliary, parameters, optimiser state)."""
    gradient, auxiliary = jax.grad(loss, has_aux=True)(parameters)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        updates, state = optimiser.update(gradient, state, parameters)
    return auxiliary, optax.apply_updates(parameters, updates), state


def repeat_updates(
    update: Callable[[Learner, Window, PRNGKeyArray], tuple[Learner, Metrics]],
    learner: Learner,
    replay: Replay,
    key: PRNGKeyArray,
    *,
    num_updates: int,
    batch_size: int,
    horizon: int,
    fade: float = 0.0,
    priority: Priority = UNIFORM,
) -> tuple[Learner, Metrics]:
    """`num_updates` times sample and update, as one scan on the device. The metrics are means over the updates. For
    `fade` and `priority` see `core.replay.sample`."""

    def once(learner: Learner, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        sample_key, update_key = jax.random.split(key)
        return update(learner, sample(replay, batch_size, horizon, sample_key, fade, priority), update_key)

    if num_updates == 1:  # a scan of one still copies its carry
        return once(learner, key)
    learner, metrics = jax.lax.scan(once, learner, jax.random.split(key, num_updates))
    return learner, jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)


def hold_out_losses(
    loss: Callable[[Window, PRNGKeyArray], Float32[Array, ""]],
    replay: Replay,
    horizon: int,
    key: PRNGKeyArray,
    *,
    number: int = 2048,
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """`loss` of windows of the episodes that are held out, and of as many of those that are trained on."""
    window_key, loss_key = jax.random.split(key)
    held, trained = (draw(replay, number, horizon, window_key, held=held) for held in (True, False))
    return loss(held, loss_key), loss(trained, loss_key)


def over_batch(function: Callable[..., T], axes: int = 2) -> Callable[..., T]:
    """`function` of one element, over `axes` leading axes of its arguments. They are flattened into one first: under
    nested `vmap` XLA's products have two batch axes, and are two to three times slower on a CPU."""

    def batched(*arguments: Any) -> T:
        lead = jax.tree.leaves(arguments)[0].shape[:axes]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), arguments)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), jax.vmap(function)(*flat))

    return batched


def moving_average(target: T, online: T, rate: float | Float32[Array, ""]) -> T:
    """target + rate (online - target), leaf by leaf: Polyak averaging of a target network."""
    return jax.tree.map(lambda t, o: t + rate * (o - t), target, online)


def where_first(first: Bool[Array, ""], fresh: T, memory: T) -> T:
    """The memory to act with: a fresh one where an episode begins."""
    return jax.tree.map(lambda f, m: jnp.where(first, f, m), fresh, memory)


def masked_mean(x: Float32[Array, "*n"], mask: Bool[Array, "*n"]) -> Float32[Array, ""]:
    """The mean over the entries that the mask keeps; 0 where it keeps none."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(1.0, jnp.sum(mask, dtype=jnp.float32))


def count_parameters(tree: T) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))
