"""Random shooting: the best of many plans drawn at random. The yardstick for every other planner."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.warm import Forward, disturbed, held, known


class ShootingMemory(eqx.Module):
    best: Float32[Array, "horizon action"]
    best_return: Float32[Array, ""]


@dataclass(frozen=True)
class RandomShooting:
    """`num_samples` plans, uniform in [-1, 1]; the last step's best one is a candidate again."""

    horizon: int = 30
    num_samples: int = 256
    iterations: int = 1
    num_proposals: int = 0  # of the model's own prior
    explore_std: float = 0.1

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals)

    @property
    def populations(self) -> tuple[int, ...]:
        return (self.num_samples,) * self.iterations

    def init(self, action_dim: int) -> ShootingMemory:
        return ShootingMemory(jnp.zeros((self.horizon, action_dim)), jnp.float32(-jnp.inf))

    def shift(self, memory: ShootingMemory, forward: Forward = held) -> ShootingMemory:
        return ShootingMemory(forward(memory.best), jnp.float32(-jnp.inf))

    def ask(
        self,
        memory: ShootingMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        given = known(memory.best, proposals)
        shape = (self.populations[round] - given.shape[0], *memory.best.shape)
        return jnp.concatenate([given, jax.random.uniform(key, shape, jnp.float32, minval=-1.0, maxval=1.0)])

    def tell(
        self, memory: ShootingMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> ShootingMemory:
        index = jnp.argmax(returns)
        better = returns[index] > memory.best_return
        told = ShootingMemory(actions[index], returns[index])
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), told, memory)

    def planned(self, memory: ShootingMemory) -> Float32[Array, "horizon action"]:
        return memory.best

    def act(self, memory: ShootingMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        return disturbed(memory.best[0], jnp.float32(self.explore_std), key) if explore else memory.best[0]
