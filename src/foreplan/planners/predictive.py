"""Predictive sampling (Howell et al. 2022, "Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo", algorithm
1): disturb the last plan, keep the best. Plans are splines, by `predictive_sampling`."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners.random_shooting import RandomShooting, ShootingMemory
from foreplan.planners.splines import Order, Splined
from foreplan.planners.warm import around, known


@dataclass(frozen=True)
class PredictiveSampling(RandomShooting):
    """As random shooting, but samples lie around the best plan so far; a fifth of them farther away."""

    num_samples: int = 32
    std: float = 0.2
    wide_std: float = 0.6

    def ask(
        self,
        memory: ShootingMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        given = known(memory.best, proposals)
        number = self.populations[round] - given.shape[0]
        std = jnp.where(jnp.arange(number) < number // 5, self.wide_std, self.std).astype(jnp.float32)
        noise = std[:, None, None] * jax.random.normal(key, (number, *memory.best.shape), jnp.float32)
        return jnp.concatenate([given, around(memory.best, noise)])


def predictive_sampling(horizon: int = 30, knots: int = 6, order: Order = "cubic", **settings: Any) -> Splined:
    """Predictive sampling of splines of `horizon` steps through `knots`."""
    return Splined(PredictiveSampling(horizon=knots, **settings), horizon, order)
