"""Where an expert is asked, if not everywhere: at random, or where the policy is in doubt.

    disagreement   the members of the policy's ensemble would do different things (Menda et al. 2019, "EnsembleDAgger")
    value-drop     the return to come is less than it seemed a step ago: something has just gone wrong
    distance       a cheap expert, such as a planner, would do something else: where a person's label is worth its price

Doubts of different kinds have different units, so the threshold is a quantile of the last round's.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting, Parts, Scores, Split, fit, transitions
from foreplan.core.replay import Replay
from foreplan.core.targets import returns_to_go
from foreplan.nn.network import ReluMLP

DISCOUNT = 0.95  # of the values whose drop is watched: some twenty decisions ahead
FITTING = Fitting(max_epochs=20)


class Doubt(eqx.Module):
    """What has been learned of where to ask."""

    threshold: Float32[Array, ""]
    value: ReluMLP  # of normalised observations

    @classmethod
    def create(cls, obs_dim: int, key: PRNGKeyArray) -> "Doubt":
        return cls(jnp.float32(-jnp.inf), ReluMLP(obs_dim, (64, 64), 1, key))


@dataclass(frozen=True)
class Query:
    """The first round asks everywhere, whatever the strategy."""

    strategy: Literal["all", "random", "disagreement", "value-drop", "distance"] = "all"
    share: float = 0.2  # of the states, except for "all"
    budget: int | None = None  # labels in all

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0 or (self.budget is not None and self.budget < 1):
            raise UsageError(f"share is {self.share} and budget {self.budget}; accepted: (0, 1], at least 1 or None")

    def asks(
        self, doubt: Doubt, measured: Float32[Array, "env"], asked: Int32[Array, "env"], everywhere: Array, key: Array
    ) -> Bool[Array, "env"]:
        """Where to ask. `measured` is the doubt of each environment's state, `asked` the labels so far."""
        if self.strategy == "random":
            asks = jax.random.uniform(key, measured.shape) < self.share
        elif self.strategy in ("disagreement", "value-drop"):
            asks = measured >= doubt.threshold
        else:
            asks = jnp.ones(measured.shape, jnp.bool_)
        asks = asks | everywhere
        return asks if self.budget is None else asks & (jnp.cumsum(asks) <= self.budget - jnp.sum(asked))

    def counts(self, doubt: Doubt, distance: Float32[Array, "env"], everywhere: Array) -> Bool[Array, "env"]:
        """Which answers count as labels, once they are known."""
        return everywhere | (distance >= doubt.threshold) if self.strategy == "distance" else distance >= 0.0

    def refit(self, doubt: Doubt, replay: Replay, newest: int, mean: Array, std: Array, key: PRNGKeyArray) -> Doubt:
        """The threshold from the `newest` transitions, and the value from all; `mean` and `std` are of observations."""
        value = fit_value(doubt.value, replay, mean, std, key) if self.strategy == "value-drop" else doubt.value
        return Doubt(quantile(replay, newest, self.share), value)


@partial(jax.jit, static_argnums=(1, 2))
def quantile(replay: Replay, newest: int, share: float) -> Float32[Array, ""]:
    """The doubt that only `share` of the `newest` transitions had; minus infinity where there are none."""
    doubt = replay.steps.extras["doubt"]
    rows, envs = doubt.shape
    age = (replay.head - 1 - jnp.arange(rows, dtype=jnp.int32)) % rows
    counts = (age < replay.size) & (age < max(1, newest // envs))
    known = jnp.where(counts[:, None], doubt, jnp.nan)
    return jnp.where(replay.size > 0, jnp.nanquantile(known, 1.0 - share), -jnp.inf)


@jax.jit
def fit_value(value: ReluMLP, replay: Replay, mean: Array, std: Array, key: PRNGKeyArray) -> ReluMLP:
    """Regression of the discounted return to come, until an episode's end or the end of what is known."""
    data, split = transitions(replay), Split.of(replay, FITTING)
    target = jnp.concatenate(
        [returns_to_go(part, jnp.zeros_like(part.steps.reward), DISCOUNT, 1.0).reshape(-1) for part in replay.parts]
    )

    def rows(parts: Parts, at: Int32[Array, "n"]) -> Float32[Array, "n"]:
        outputs = jax.vmap(parts["value"])((data.obs[at] - mean[None]) / std[None])
        return (outputs[:, 0] - target[at]) ** 2

    def loss(parts: Parts, at: Int32[Array, "n"]) -> Float32[Array, ""]:
        return jnp.mean(rows(parts, at))

    def score(parts: Parts) -> Scores:
        return {"value": split.mean(partial(rows, parts), FITTING.max_held)}

    return fit(FITTING, {"value": value}, loss, score, split, key).best["value"]
