"""One number for what a plan returns in several worlds: the members of an ensemble, or simulators with other masses and
frictions. Each takes returns [members, n] and gives scores [n]; a plan that is invalid anywhere is invalid."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.learning import over_batch
from foreplan.core.model import Model, State, returns

Risk = Callable[[Array], Array]  # returns [members, n] -> scores [n]


@dataclass(frozen=True)
class Mean:
    """Neutral."""

    def __call__(self, returns: Float32[Array | np.ndarray, "members n"]) -> Float32[Array, "n"]:
        return jnp.mean(returns, axis=0)


@dataclass(frozen=True)
class CVaR:
    """The mean of the worst share `alpha` of the worlds; alpha 1 is the mean, alpha near 0 the worst world."""

    alpha: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha must lie in (0, 1], not {self.alpha}")

    def __call__(self, returns: Float32[Array | np.ndarray, "members n"]) -> Float32[Array, "n"]:
        worst = jnp.sort(returns, axis=0)
        share = jnp.clip(self.alpha * len(worst) - jnp.arange(len(worst), dtype=jnp.float32), 0.0, 1.0)
        counted = jnp.where(share[:, None] > 0.0, worst, 0.0)  # infinity times zero is not a number
        return share @ counted / jnp.sum(share)


@dataclass(frozen=True)
class MeanMinusDeviation:
    """The mean less `weight` standard deviations."""

    weight: float = 1.0

    def __call__(self, returns: Float32[Array | np.ndarray, "members n"]) -> Float32[Array, "n"]:
        return jnp.mean(returns, axis=0) - self.weight * jnp.std(returns, axis=0)


class Members(eqx.Module):
    """Models of one world, stacked: each array leaf of `models` is [members, ...]. Planned in like a single model. Each
    is asked with `particles` draws of the random numbers; a draw stays with its member to the end, as in PETS' TS-inf.
    """

    models: Model
    risk: Risk = eqx.field(static=True, default=Mean())
    particles: int = eqx.field(static=True, default=1)

    def score(
        self, state: State, actions: Float32[Array, "n horizon action"], key: PRNGKeyArray
    ) -> Float32[Array, "n"]:
        """Every candidate in every member, from one state, with the same random numbers. The members take turns, so
        that each asks for one matrix product for all candidates and draws: a batch of products takes three times as
        long on a CPU."""
        found = jax.lax.map(lambda model: drawn(model, state, actions, key, self.particles), self.models)
        return self.risk(found.reshape(-1, len(actions)))

    def first(self) -> Model:
        """The one that offers proposals."""
        return jax.tree.map(lambda leaf: leaf[0], self.models)


class Draws(eqx.Module):
    """One model whose steps are random, asked with `particles` draws of the random numbers: in an ensemble of which
    each step is another member's, PETS' TS-1. Planned in like a single model."""

    model: Model
    risk: Risk = eqx.field(static=True, default=Mean())
    particles: int = eqx.field(static=True, default=1)

    def score(
        self, state: State, actions: Float32[Array, "n horizon action"], key: PRNGKeyArray
    ) -> Float32[Array, "n"]:
        """One draw after the other, so that within a step all candidates are of one member: one matrix product."""

        def draw(key: PRNGKeyArray) -> Float32[Array, "n"]:
            return jax.vmap(lambda plan: returns(self.model, state, plan, key))(actions)

        return self.risk(jax.lax.map(draw, jax.random.split(key, self.particles)))

    def first(self) -> Model:
        return self.model


def drawn(
    model: Model, state: State, actions: Float32[Array, "n horizon action"], key: PRNGKeyArray, draws: int
) -> Float32[Array, "draws n"]:
    """What every candidate returns with every draw of the random numbers."""
    pairs = jnp.broadcast_to(jax.random.split(key, draws)[:, None], (draws, len(actions)))
    plans = jnp.broadcast_to(actions[None], (draws, *actions.shape))
    return over_batch(lambda plan, key: returns(model, state, plan, key))(plans, pairs)
