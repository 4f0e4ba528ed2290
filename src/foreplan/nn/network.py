"""The critics and policies of actor-critic methods: networks of one vector that are trained in batches.

What is different while training (dropout, the batch's own statistics, weights kept on their constraint) stands in the
methods of `Network`, each with a default that does nothing. `Architecture` is the configuration of any of them.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.nn.nets import Block, Ensemble, Linear

Batch = Float32[Array, "batch in"]


class Network(eqx.Module):
    @abstractmethod
    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        """Of one vector, as when acting."""

    def batch(self, xs: Batch, key: PRNGKeyArray | None = None) -> Float32[Array, "batch out"]:
        """Of a batch, as when training: with dropout if there is a key, and with the batch's own statistics."""
        del key
        return jax.vmap(self)(xs)

    def observed(self, xs: Batch) -> "Network":
        """With running statistics that have seen this batch."""
        del xs
        return self

    def constrained(self) -> "Network":
        """With weights put back on their constraint, as after each gradient step."""
        return self


class ReluMLP(Network):
    """Linear layers with ReLU between them; with LayerNorm and dropout before each ReLU where asked for (Hiraoka et al.
    2022, "Dropout Q-Functions for Doubly Efficient Reinforcement Learning", figure 1)."""

    hidden: tuple[Linear | Block, ...]
    last: Linear

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, ...],
        outputs: int,
        key: PRNGKeyArray,
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ):
        sizes, keys = (inputs, *widths), jax.random.split(key, len(widths) + 1)

        def layer(i: int) -> Linear | Block:
            if layer_norm:
                return Block(sizes[i], sizes[i + 1], keys[i], "relu", dropout)
            return Linear(sizes[i], sizes[i + 1], keys[i], std=sizes[i] ** -0.5)

        self.hidden = tuple(layer(i) for i in range(len(widths)))
        self.last = Linear(sizes[-1], outputs, keys[-1], std=sizes[-1] ** -0.5)

    def __call__(self, x: Float32[Array, "in"], key: PRNGKeyArray | None = None) -> Float32[Array, "out"]:
        keys = [None] * len(self.hidden) if key is None else list(jax.random.split(key, len(self.hidden)))
        for layer, layer_key in zip(self.hidden, keys, strict=True):
            x = layer(x, layer_key) if isinstance(layer, Block) else jax.nn.relu(layer(x))
        return self.last(x)

    def batch(self, xs: Batch, key: PRNGKeyArray | None = None) -> Float32[Array, "batch out"]:
        if key is None or not any(isinstance(layer, Block) and layer.dropout > 0 for layer in self.hidden):
            return jax.vmap(self)(xs)
        return jax.vmap(self)(xs, jax.random.split(key, xs.shape[0]))


@dataclass(frozen=True)
class Architecture:
    """What a critic or a policy is made of. `layers` counts hidden layers, or the residual blocks of a hypersphere."""

    kind: Literal["plain", "layer-norm", "batch-renorm", "hypersphere"] = "plain"
    width: int = 256
    layers: int = 2
    dropout: float = 0.0  # of layer-norm
    weight_norm: bool = False  # of batch-renorm: rows of unit length
    warmup: int = 100_000  # of batch-renorm: batches in which it is plain BatchNorm

    def __post_init__(self) -> None:
        if self.dropout and self.kind != "layer-norm":
            raise UsageError(f"dropout is {self.dropout}, which only layer-norm networks have, not {self.kind}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; accepted: numbers from 0 to below 1")

    def make(self, inputs: int, outputs: int, key: PRNGKeyArray) -> Network:
        from foreplan.nn.batch_renorm import NormalisedPerceptron
        from foreplan.nn.hypersphere import Hypersphere

        if self.kind == "hypersphere":
            return Hypersphere(inputs, self.width, self.layers, outputs, key)
        widths = (self.width,) * self.layers
        if self.kind == "batch-renorm":
            return NormalisedPerceptron(inputs, widths, outputs, key, weight_norm=self.weight_norm, warmup=self.warmup)
        return ReluMLP(inputs, widths, outputs, key, layer_norm=self.kind == "layer-norm", dropout=self.dropout)


class Heads(Ensemble):
    """An ensemble of `Network`, trained side by side on the same batches."""

    def __init__(self, make: Callable[[PRNGKeyArray], Network], heads: int, key: PRNGKeyArray):
        super().__init__(make, heads, key)

    def batch(self, xs: Batch, key: PRNGKeyArray | None = None) -> Float32[Array, "heads batch out"]:
        keys = [None] * self.heads if key is None else list(jax.random.split(key, self.heads))
        return jnp.stack([member.batch(xs, key) for member, key in zip(self.each(), keys, strict=True)])

    def evaluate(self, xs: Batch) -> Float32[Array, "heads batch out"]:
        """As when acting: without dropout, by running statistics."""
        return jnp.stack([jax.vmap(member)(xs) for member in self.each()])

    def observed(self, xs: Batch) -> "Heads":
        members = [member.observed(xs) for member in self.each()]
        return eqx.tree_at(lambda e: e.members, self, jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))

    def constrained(self) -> "Heads":
        return eqx.tree_at(lambda e: e.members, self, jax.vmap(lambda member: member.constrained())(self.members))
