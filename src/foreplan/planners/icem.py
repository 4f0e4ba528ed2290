"""The improved cross-entropy method (Pinneri et al. 2020, "Sample-efficient Cross-Entropy Method for Real-time
Planning", algorithm 1).

 1. shift the last plan's mean, spread and a share of its elites by one step       `shift`
 2. in each round, fewer candidates than in the last, never below twice the elites  `populations`
      a. sample coloured noise around the mean, clip                                `ask`
      b. add a share of the elites: the shifted ones first, then the last round's
      c. refit mean and spread to the elites, with momentum                         `tell`
 3. act by the first action of the best plan of all rounds                          `act`

Differences from the authors: the mean is a candidate in every round, not only in the last; a share of the spread is
warm-started too.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.noise import coloured
from foreplan.planners.warm import Forward, around, disturbed, held, keep_unless_valid, known


class ICEMMemory(eqx.Module):
    mean: Float32[Array, "horizon action"]
    std: Float32[Array, "horizon action"]
    elites: Float32[Array, "elites horizon action"]
    best: Float32[Array, "horizon action"]  # of this step's candidates
    best_return: Float32[Array, ""]


@dataclass(frozen=True)
class ICEM:
    """Fields in units of the normalised action space [-1, 1]."""

    horizon: int = 30
    num_samples: int = 64  # of the first round
    iterations: int = 3
    decay: float = 1.25  # each round has so many times fewer candidates than the last
    num_elites: int = 10
    kept: float = 0.3  # share of the elites that is kept from round to round and from step to step
    num_proposals: int = 0  # of the model's own prior
    exponent: float = 2.0  # of the noise's spectrum: 0 is white, larger is smoother
    momentum: float = 0.1
    std: float = 0.5  # with which an episode begins
    min_std: float = 0.05
    warm_std: float = 0.8  # share of the last step's spread in the next one's first; the rest is `std`

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals, self.num_elites)
        checks.shares(kept=self.kept, momentum=self.momentum, warm_std=self.warm_std)
        checks.spread(self.min_std, self.std)
        if not 1.0 <= self.decay < float("inf"):
            raise ValueError(f"decay must be at least 1 and finite, not {self.decay}")

    @property
    def num_kept(self) -> int:
        return round(self.kept * self.num_elites)

    @property
    def populations(self) -> tuple[int, ...]:
        least = min(self.num_samples, 2 * self.num_elites)
        return tuple(max(least, round(self.num_samples * self.decay**-i)) for i in range(self.iterations))

    def init(self, action_dim: int) -> ICEMMemory:
        mean = jnp.zeros((self.horizon, action_dim))
        return ICEMMemory(
            mean=mean,
            std=jnp.full_like(mean, self.std),
            elites=jnp.zeros((self.num_elites, self.horizon, action_dim)),
            best=mean,
            best_return=jnp.float32(-jnp.inf),
        )

    def shift(self, memory: ICEMMemory, forward: Forward = held) -> ICEMMemory:
        std = forward(memory.std).at[-1].set(self.std)
        return ICEMMemory(
            mean=forward(memory.mean),
            std=self.warm_std * std + (1.0 - self.warm_std) * self.std,
            elites=forward(memory.elites),
            best=forward(memory.best),
            best_return=jnp.float32(-jnp.inf),
        )

    def ask(
        self,
        memory: ICEMMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        """The proposals, the un-noised mean, the best plan, the elites that are kept, and samples around the mean."""
        given = known(memory.mean, memory.best, memory.elites[: self.num_kept], proposals)[: self.populations[round]]
        shape = (self.populations[round] - given.shape[0], *memory.mean.shape)
        noise = memory.std[None] * coloured(key, self.exponent, shape)
        return jnp.concatenate([given, around(memory.mean, noise)])

    def tell(
        self, memory: ICEMMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> ICEMMemory:
        """Refit to the valid elites. With no valid candidate at all the memory stays as it is."""
        top, index = jax.lax.top_k(returns, self.num_elites)
        elites = jnp.where(jnp.isfinite(top)[:, None, None], actions[index], actions[index[:1]])
        mean = self.momentum * memory.mean + (1.0 - self.momentum) * jnp.mean(elites, axis=0)
        spread = self.momentum * memory.std + (1.0 - self.momentum) * jnp.std(elites, axis=0)
        better = top[0] > memory.best_return
        told = ICEMMemory(
            mean=mean,
            std=jnp.maximum(spread, self.min_std),
            elites=elites,
            best=jnp.where(better, elites[0], memory.best),
            best_return=jnp.where(better, top[0], memory.best_return),
        )
        return keep_unless_valid(told, memory, top[0])

    def planned(self, memory: ICEMMemory) -> Float32[Array, "horizon action"]:
        return memory.best

    def act(self, memory: ICEMMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        """The best plan's first action; exploring, with noise."""
        return disturbed(memory.best[0], memory.std[0], key) if explore else memory.best[0]
