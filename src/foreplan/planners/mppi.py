"""Model predictive path integral control (Williams et al. 2015), in the form of TD-MPC2 (algorithm 1): each round
refits a Gaussian over action sequences to its elites, weighted by their exponentiated return."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.warm import Forward, ended


class MPPIMemory(eqx.Module):
    mean: Float32[Array, "horizon action"]
    std: Float32[Array, "horizon action"]
    elites: Float32[Array, "elites action"]  # their first actions
    log_weights: Float32[Array, "elites"]


@dataclass(frozen=True)
class MPPI:
    """Fields in units of the normalised action space [-1, 1]; a temperature in units of `scale`."""

    horizon: int = 3
    num_samples: int = 512  # candidates a round, proposals and the warm start among them
    num_proposals: int = 24  # of the model's own prior
    num_elites: int = 64
    iterations: int = 6
    temperature: float = 2.0  # weights are exp((G - max G) / (temperature * scale))
    scale: Literal["elites", "raw"] = "elites"  # unit of the temperature: the elites' spread, or the reward's own
    min_std: float = 0.05
    max_std: float = 2.0

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals, self.num_elites)
        checks.spread(self.min_std, self.max_std, "max_std")
        checks.positive(temperature=self.temperature)

    @property
    def populations(self) -> tuple[int, ...]:
        return (self.num_samples,) * self.iterations

    def init(self, action_dim: int) -> MPPIMemory:
        return MPPIMemory(
            mean=jnp.zeros((self.horizon, action_dim)),
            std=jnp.full((self.horizon, action_dim), self.max_std, jnp.float32),
            elites=jnp.zeros((self.num_elites, action_dim)),
            log_weights=jnp.zeros((self.num_elites,)),
        )

    def shift(self, memory: MPPIMemory, forward: Forward = ended) -> MPPIMemory:
        """The last plan, one step on: its mean moves forward, its spread is opened again."""
        std = jnp.full_like(memory.std, self.max_std)
        return MPPIMemory(forward(memory.mean), std, memory.elites, memory.log_weights)

    def ask(
        self,
        memory: MPPIMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        """The proposals, the un-noised mean, and samples around it."""
        del round
        given = [] if proposals is None else [proposals]
        number = self.num_samples - 1 - (0 if proposals is None else self.num_proposals)
        noise = jax.random.normal(key, (number, *memory.mean.shape), jnp.float32)
        samples = jnp.clip(memory.mean[None] + memory.std[None] * noise, -1.0, 1.0)
        return jnp.concatenate([*given, memory.mean[None], samples])

    def tell(
        self, memory: MPPIMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> MPPIMemory:
        """Refit mean and spread to the weighted elites. With no valid candidate at all the memory stays as it is."""
        best, index = jax.lax.top_k(returns, self.num_elites)
        elites = actions[index]
        log_weights = jax.nn.log_softmax((best - best[0]) / (self.temperature * self._unit(best)))
        weights = jnp.exp(log_weights)[:, None, None]
        mean = jnp.sum(weights * elites, axis=0)
        spread = jnp.sqrt(jnp.sum(weights * (elites - mean[None]) ** 2, axis=0))
        told = MPPIMemory(mean, jnp.clip(spread, self.min_std, self.max_std), elites[:, 0], log_weights)
        return jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(best[0]), new, old), told, memory)

    def _unit(self, best: Float32[Array, "elites"]) -> Float32[Array, ""]:
        """What the temperature is counted in: the standard deviation of the valid elites' returns, or 1."""
        if self.scale == "raw":
            return jnp.ones(())
        valid = jnp.isfinite(best)
        number = jnp.maximum(1, jnp.sum(valid)).astype(jnp.float32)
        mean = jnp.sum(jnp.where(valid, best, 0.0)) / number
        return jnp.sqrt(jnp.sum(jnp.where(valid, best - mean, 0.0) ** 2) / number) + 1e-6

    def planned(self, memory: MPPIMemory) -> Float32[Array, "horizon action"]:
        return memory.mean

    def act(self, memory: MPPIMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        """Exploring: the first action of an elite drawn by weight, with noise. Otherwise: the plan's mean."""
        if not explore:
            return memory.mean[0]
        elite_key, noise_key = jax.random.split(key)
        elite = memory.elites[jax.random.categorical(elite_key, memory.log_weights)]
        return jnp.clip(elite + memory.std[0] * jax.random.normal(noise_key, elite.shape, jnp.float32), -1.0, 1.0)
