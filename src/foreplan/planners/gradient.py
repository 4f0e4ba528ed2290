"""Gradient ascent on what a plan returns, through a differentiable model, by Adam from several starts."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.warm import Forward, around, disturbed, held, keep_unless_valid, known


class GradientMemory(eqx.Module):
    best: Float32[Array, "horizon action"]


@dataclass(frozen=True)
class Gradient:
    """Starts are the last plan one step on, the model's proposals, and `num_samples` of both in all, with noise."""

    horizon: int = 30
    num_samples: int = 8
    iterations: int = 20
    num_proposals: int = 0
    lr: float = 0.1
    std: float = 0.3  # of the starts around the last plan
    explore_std: float = 0.1

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals)
        checks.positive(lr=self.lr)

    def init(self, action_dim: int) -> GradientMemory:
        return GradientMemory(jnp.zeros((self.horizon, action_dim)))

    def shift(self, memory: GradientMemory, forward: Forward = held) -> GradientMemory:
        return GradientMemory(forward(memory.best))

    def search(
        self, score: Callable[[Array], Array], memory: GradientMemory, key: PRNGKeyArray, offered: Array | None = None
    ) -> tuple[GradientMemory, Int32[Array, ""]]:
        """The best plan that any start has passed through, and how many plans were invalid."""
        memory = self.shift(memory)
        given = known(memory.best, offered)
        shape = (self.num_samples - given.shape[0], *memory.best.shape)
        noise = self.std * jax.random.normal(key, shape, jnp.float32)
        plans = jnp.concatenate([given, around(memory.best, noise)])
        optimiser = optax.adam(self.lr)

        def ascend(carry, _):  # type: ignore[no-untyped-def]
            plans, state, best, best_return, invalid = carry
            scored, pull = jax.vjp(score, plans)
            (gradient,) = pull(-jnp.ones_like(scored))
            returns = jnp.where(jnp.isfinite(scored), scored, -jnp.inf)
            index = jnp.argmax(returns)
            better = returns[index] > best_return
            best = jnp.where(better, plans[index], best)
            usable = jnp.isfinite(gradient).all(axis=(1, 2), keepdims=True)
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
                step, state = optimiser.update(jnp.where(usable, gradient, 0.0), state)
            plans = jnp.clip(plans + step, -1.0, 1.0)
            invalid = invalid + jnp.sum(~jnp.isfinite(scored), dtype=jnp.int32)
            return (plans, state, best, jnp.maximum(returns[index], best_return), invalid), None

        start = plans, optimiser.init(plans), memory.best, jnp.float32(-jnp.inf), jnp.zeros((), jnp.int32)
        (_, _, best, best_return, invalid), _ = jax.lax.scan(ascend, start, length=self.iterations + 1)
        return keep_unless_valid(GradientMemory(best), memory, best_return), invalid

    def planned(self, memory: GradientMemory) -> Float32[Array, "horizon action"]:
        return memory.best

    def act(self, memory: GradientMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        return disturbed(memory.best[0], jnp.float32(self.explore_std), key) if explore else memory.best[0]
