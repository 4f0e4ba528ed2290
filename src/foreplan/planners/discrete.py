"""Planning over a finite set of actions: random shooting, the cross-entropy method and MPPI over categorical
distributions. An action is the one-hot vector of its number, so that everything else stays as it is."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.warm import Forward, held, keep_unless_valid, known


class DiscreteMemory(eqx.Module):
    probs: Float32[Array, "horizon action"]
    best: Float32[Array, "horizon action"]
    best_return: Float32[Array, ""]


@dataclass(frozen=True)
class Discrete:
    """`refit` says how the distribution follows from what candidates return: "shooting" leaves it uniform, "cem" takes
    the shares among the elites, "mppi" weighs them by exp(G / temperature), in units of their spread."""

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)

    horizon: int = 15
    num_samples: int = 128
    iterations: int = 4
    num_elites: int = 16
    num_proposals: int = 0
    refit: Literal["shooting", "cem", "mppi"] = "cem"
    temperature: float = 0.5
    uniform: float = 0.1  # share of the uniform distribution that always stays

    def __post_init__(self) -> None:
        checks.one_of("refit", self.refit, ("shooting", "cem", "mppi"))
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.candidates(self.num_samples, self.num_proposals, self.num_elites)
        checks.positive(uniform=self.uniform, temperature=self.temperature)
        checks.shares(uniform=self.uniform)

    @property
    def populations(self) -> tuple[int, ...]:
        return (self.num_samples,) * self.iterations

    def init(self, num_actions: int) -> DiscreteMemory:
        probs = jnp.full((self.horizon, num_actions), 1.0 / num_actions, jnp.float32)
        best = jnp.zeros((self.horizon, num_actions)).at[:, 0].set(1.0)
        return DiscreteMemory(probs, best, jnp.float32(-jnp.inf))

    def shift(self, memory: DiscreteMemory, forward: Forward = held) -> DiscreteMemory:
        return DiscreteMemory(self.mixed(forward(memory.probs)), forward(memory.best), jnp.float32(-jnp.inf))

    def ask(
        self,
        memory: DiscreteMemory,
        proposals: Float32[Array, "p horizon action"] | None,
        key: PRNGKeyArray,
        round: int = 0,
    ) -> Float32[Array, "n horizon action"]:
        """The best plan so far, the most probable one, the proposals, and draws."""
        horizon, number = memory.probs.shape
        probable = jax.nn.one_hot(jnp.argmax(memory.probs, axis=1), number)
        given = known(memory.best, probable, proposals)
        shape = (self.populations[round] - given.shape[0], horizon)
        drawn = jax.random.categorical(key, jnp.log(memory.probs), axis=-1, shape=shape)
        return jnp.concatenate([given, jax.nn.one_hot(drawn, number)])

    def tell(
        self, memory: DiscreteMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> DiscreteMemory:
        top, index = jax.lax.top_k(returns, self.num_elites)
        valid = jnp.isfinite(top)
        better = top[0] > memory.best_return
        told = DiscreteMemory(
            probs=self.mixed(jnp.einsum("n,nta->ta", self.weights(top, valid), actions[index])),
            best=jnp.where(better, actions[index[0]], memory.best),
            best_return=jnp.where(better, top[0], memory.best_return),
        )
        return keep_unless_valid(told, memory, top[0])

    def weights(self, top: Float32[Array, "elites"], valid: Array) -> Float32[Array, "elites"]:
        """Shares of the elites; those that are not valid have none."""
        if self.refit != "mppi":
            return valid.astype(jnp.float32) / jnp.maximum(1, jnp.sum(valid)).astype(jnp.float32)
        spread = jnp.sqrt(jnp.mean(jnp.where(valid, top - top[0], 0.0) ** 2)) + 1e-6
        return jax.nn.softmax(jnp.where(valid, (top - top[0]) / (self.temperature * spread), -jnp.inf))

    def mixed(self, probs: Float32[Array, "horizon action"]) -> Float32[Array, "horizon action"]:
        share = 1.0 if self.refit == "shooting" else self.uniform
        return (1.0 - share) * probs + share / probs.shape[1]

    def planned(self, memory: DiscreteMemory) -> Float32[Array, "horizon action"]:
        return memory.best

    def act(self, memory: DiscreteMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        """One-hot: the best plan's first action; exploring, a draw."""
        if not explore:
            return memory.best[0]
        return jax.nn.one_hot(jax.random.categorical(key, jnp.log(memory.probs[0])), memory.probs.shape[1])
