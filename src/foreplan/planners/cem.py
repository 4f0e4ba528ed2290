"""The cross-entropy method (Rubinstein 1999; for planning as in PETS, Chua et al. 2018): refit a Gaussian over plans to
its best samples, again and again."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.warm import Forward, around, disturbed, held, keep_unless_valid, known


class CEMMemory(eqx.Module):
    mean: Float32[Array, "horizon action"]
    std: Float32[Array, "horizon action"]


@dataclass(frozen=True)
class CEM:
    """Fields in units of the normalised action space [-1, 1]."""

    horizon: int = 30
    num_samples: int = 350
    iterations: int = 5
    num_elites: int = 35
    num_proposals: int = 0  # of the model's own prior
    momentum: float = 0.1  # share of the old mean and spread in the new
    std: float = 0.5  # with which an episode begins
    min_std: float = 0.05
    warm_std: float = 0.5  # share of the last step's spread in the next one's first; the rest is `std`

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals, self.num_elites)
        checks.shares(momentum=self.momentum, warm_std=self.warm_std)
        checks.spread(self.min_std, self.std)

    @property
    def populations(self) -> tuple[int, ...]:
        return (self.num_samples,) * self.iterations

    def init(self, action_dim: int) -> CEMMemory:
        mean = jnp.zeros((self.horizon, action_dim))
        return CEMMemory(mean, jnp.full_like(mean, self.std))

    def shift(self, memory: CEMMemory, forward: Forward = held) -> CEMMemory:
        std = forward(memory.std).at[-1].set(self.std)
        return CEMMemory(forward(memory.mean), self.warm_std * std + (1.0 - self.warm_std) * self.std)

    def ask(
        self,
        memory: CEMMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        """The un-noised mean, the proposals, and samples around the mean."""
        given = known(memory.mean, proposals)
        shape = (self.populations[round] - given.shape[0], *memory.mean.shape)
        noise = memory.std[None] * jax.random.normal(key, shape, jnp.float32)
        return jnp.concatenate([given, around(memory.mean, noise)])

    def tell(
        self, memory: CEMMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> CEMMemory:
        """Refit to the valid elites. With no valid candidate at all the memory stays as it is."""
        top, index = jax.lax.top_k(returns, self.num_elites)
        elites = jnp.where(jnp.isfinite(top)[:, None, None], actions[index], actions[index[:1]])
        mean = self.momentum * memory.mean + (1.0 - self.momentum) * jnp.mean(elites, axis=0)
        std = self.momentum * memory.std + (1.0 - self.momentum) * jnp.std(elites, axis=0)
        return keep_unless_valid(CEMMemory(mean, jnp.maximum(std, self.min_std)), memory, top[0])

    def planned(self, memory: CEMMemory) -> Float32[Array, "horizon action"]:
        return memory.mean

    def act(self, memory: CEMMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        """The mean's first action; exploring, a draw from the distribution."""
        return disturbed(memory.mean[0], memory.std[0], key) if explore else memory.mean[0]
