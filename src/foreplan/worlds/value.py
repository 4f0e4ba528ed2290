"""What lies beyond a horizon, learned from data alone: the value V(obs) of whoever has acted in them.

 1. targets: returns to go of whole episodes, discounted                            `core.replay.returns_to_go`
      "return"  Monte Carlo: all rewards to the episode's end
      "lambda"  lambda-returns (Sutton and Barto 2018, section 12.2)
      "td"      r + discount V(next obs)
 2. fit each head to them by least squares, until it gains no more on the hold-out set   `sweep`
 3. make the targets anew with the values that were found, as long as they move          `fit_value`

Nothing follows termination. Where an episode was truncated its tail is unknown, and neither nothing nor left out: the
value found so far stands for it, in "return" too. Data without truncation need one sweep then. The error that dies out
most slowly is one that is the same in all states; how much of it a sweep leaves is known, so it is taken out at once.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.fitting import Curves, Fitting, Parts, Scores, Split, fit, transitions
from foreplan.core.learning import masked_mean
from foreplan.core.replay import Replay
from foreplan.core.targets import returns_to_go
from foreplan.core.types import Metrics, Spec
from foreplan.nn.nets import Ensemble
from foreplan.nn.network import ReluMLP
from foreplan.worlds.fitting import moments

WEIGHTS = {"return": 1.0, "lambda": 0.95, "td": 0.0}


@dataclass(frozen=True)
class ValueNetwork:
    heads: int = 3  # each fitted by itself; the value is their mean
    widths: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        if self.heads < 1 or not self.widths or min(self.widths) < 1:
            raise ValueError("heads and widths must be at least 1")


@dataclass(frozen=True)
class ValueFitting:
    target: Literal["return", "lambda", "td"] = "return"
    discount: float = 0.99  # of a decision
    weight: float | None = None  # lambda, of "lambda"; None: 0.95
    sweeps: int = 100  # times that the targets are made, at most
    still: float = 0.02  # sweeps end where the targets move by less than this share of their deviation
    fitting: Fitting = field(default_factory=lambda: Fitting(max_epochs=50, patience=3))  # of a sweep

    def __post_init__(self) -> None:
        if self.target not in WEIGHTS:
            raise ValueError(f"target is {self.target!r}; accepted: {', '.join(map(repr, WEIGHTS))}")
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"discount is {self.discount}; accepted: numbers from 0 to below 1")
        if self.weight is not None and (self.target != "lambda" or not 0.0 <= self.weight <= 1.0):
            raise ValueError(f"weight is {self.weight}; accepted: a share in [0, 1], of 'lambda' alone")
        if not self.still > 0.0 or self.sweeps < 1:
            raise ValueError("still must be above 0, sweeps at least 1")

    @property
    def lam(self) -> float:
        return WEIGHTS[self.target] if self.weight is None else self.weight


class Beyond(eqx.Module):
    """A value of what is observed at the horizon, each decision until then discounted by `discount`. It is lowered by
    `caution` standard deviations of its heads."""

    discount: Float32[Array, ""]
    caution: float = eqx.field(static=True, default=0.0, kw_only=True)

    @abstractmethod
    def __call__(self, obs: Float32[Array, "obs"]) -> Float32[Array, ""]: ...

    @abstractmethod
    def each(self, number: int) -> "Beyond":
        """`number` values, for as many members of an ensemble: stacked, leaves are [number, ...]."""


class Value(Beyond):
    """Networks from normalised observations to values, in units of their targets. The value is their mean, less
    `caution` of their standard deviations, and `most` at most."""

    heads: Ensemble
    mean: Float32[Array, "obs"]
    std: Float32[Array, "obs"]
    centre: Float32[Array, ""]
    spread: Float32[Array, ""]
    most: Float32[Array, ""]

    @classmethod
    def create(cls, spec: Spec, size: ValueNetwork, key: PRNGKeyArray, discount: float = 0.99) -> "Value":
        """Untrained; 0 everywhere."""
        (obs_dim,) = spec.obs_shape
        heads = Ensemble(lambda k: ReluMLP(obs_dim, size.widths, 1, k), size.heads, key)
        return cls(
            heads=heads,
            mean=jnp.zeros(obs_dim),
            std=jnp.ones(obs_dim),
            centre=jnp.zeros(()),
            spread=jnp.zeros(()),
            discount=jnp.float32(discount),
            most=jnp.full((), jnp.inf, jnp.float32),
        )

    def __call__(self, obs: Float32[Array, "obs"]) -> Float32[Array, ""]:
        said = self.heads((obs - self.mean) / self.std)
        lowered = jnp.mean(said) - (self.caution * jnp.std(said) if self.caution else 0.0)
        return jnp.minimum(self.centre + self.spread * lowered, self.most)

    def each(self, number: int) -> "Value":
        """Of one head each, in turn."""
        turns = jnp.arange(number, dtype=jnp.int32) % self.heads.heads
        alone = jax.tree.map(lambda leaf: leaf[turns][:, None], self.heads.members)
        shared = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), self)
        return eqx.tree_at(lambda value: value.heads.members, shared, alone)


def fit_value(value: Value, replay: Replay, config: ValueFitting, key: PRNGKeyArray) -> tuple[Value, Metrics, Curves]:
    """Called from Python. The curves are of all sweeps, one after another [heads, epochs]. `value_error` is the squared
    error on the hold-out set as a share of the targets' variance, `moved` by how much the last sweep has still changed
    the targets: root mean square, in their deviations."""
    curves: list[Array] = []
    moved = float("inf")
    while len(curves) < config.sweeps and moved > config.still:
        number = jax.device_put(np.uint32(len(curves)))
        value, metrics, curve = sweep(value, replay, config, jax.random.fold_in(key, number))
        moved = float(jax.device_get(metrics["moved"]))
        curves.append(curve)
    sweeps = jax.device_put(np.float32(len(curves)))
    return value, metrics | {"sweeps": sweeps}, {"value": jnp.concatenate(curves, axis=1)}


@partial(jax.jit, static_argnames="config")
def sweep(
    value: Value, replay: Replay, config: ValueFitting, key: PRNGKeyArray
) -> tuple[Value, Metrics, Float32[Array, "heads epochs"]]:
    """One set of targets, and the fit to them."""
    fitting = config.fitting
    split, obs = Split.of(replay, fitting), jnp.asarray(transitions(replay).obs)
    target = targets(value, replay, config)
    mean, std = moments(obs, split.trained, jnp.float32(1e-3))
    centre, spread = (x[0] for x in moments(target[:, None], split.trained, jnp.float32(1e-6)))
    spread = jnp.maximum(spread, 1e-3 * jnp.abs(centre))
    units = {"mean": mean, "std": std, "centre": centre, "spread": spread, "discount": jnp.float32(config.discount)}
    scaled = replace(value, **units)

    def rows(parts: Parts, at: Int32[Array, "n"]) -> Float32[Array, "n"]:
        guess = jax.vmap(parts["value"])((obs[at] - mean[None]) / std[None])[:, 0]
        return (guess - (target[at] - centre) / spread) ** 2

    def loss(parts: Parts, at: Int32[Array, "n"]) -> Float32[Array, ""]:
        return jnp.mean(rows(parts, at))

    def score(parts: Parts) -> Scores:
        return {"value": split.mean(partial(rows, parts), fitting.max_held)}

    def one(head: tuple[ReluMLP, PRNGKeyArray]) -> tuple[ReluMLP, Array, Array]:
        found = fit(fitting, {"value": head[0]}, loss, score, split, head[1])
        return found.best["value"], found.scores["value"], found.curves["value"]

    keys = jax.random.split(key, value.heads.heads)
    heads, scores, curve = jax.lax.map(one, (value.heads.members, keys))
    found = eqx.tree_at(lambda v: v.heads.members, scaled, heads)
    after = targets(found, replay, config)
    left = masked_mean(targets(raised(found, 1.0), replay, config) - after, split.trained)  # of an error of 1
    lift = masked_mean(after - target, split.trained) / (1.0 - left)
    moved = jnp.sqrt(masked_mean((after - target) ** 2, split.trained)) / spread
    return raised(found, lift), {"value_error": jnp.mean(scores), "moved": moved}, curve


def raised(value: Value, by: float | Float32[Array, ""]) -> Value:
    return eqx.tree_at(lambda v: v.centre, value, value.centre + by)


def targets(value: Value, replay: Replay, config: ValueFitting) -> Float32[Array, "n"]:
    """Of all rows of `transitions(replay)`."""

    def of(part: Replay) -> Float32[Array, "m"]:
        after = jax.vmap(jax.vmap(value))(jnp.asarray(part.steps.next_obs))
        return returns_to_go(part, after, config.discount, config.lam).reshape(-1)

    return jnp.concatenate([of(part) for part in replay.parts])
