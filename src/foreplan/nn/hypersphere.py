"""Residual networks whose features and rows of weights have unit length, after SimbaV2 (Lee et al. 2025,
"Hyperspherical Normalization for Scalable Deep Reinforcement Learning", section 4), in a size for a CPU."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.nn.nets import product
from foreplan.nn.network import Network

SHIFT = 3.0  # a constant input, so that the length of the input is not lost where it is brought to unit length


def unit(x: Float32[Array, "*lead n"]) -> Float32[Array, "*lead n"]:
    """`x` brought to length 1, along its last axis."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


class Dense(eqx.Module):
    """W x, its rows of unit length, times a learned scale of each feature that begins at `initial`."""

    weight: Float32[Array, "out in"]
    scale: Float32[Array, "out"]  # in units of `initial`, so that it learns as fast as a weight
    initial: float = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, key: PRNGKeyArray, initial: float):
        self.weight = unit(jax.random.normal(key, (outputs, inputs), jnp.float32))
        self.scale, self.initial = jnp.full((outputs,), outputs**-0.5, jnp.float32), initial * outputs**0.5

    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        return product(x, self.weight) * (self.scale * self.initial)


class Residual(eqx.Module):
    """From h a step towards what a hidden layer makes of it, each feature at its own learned rate."""

    first: Dense
    second: Dense
    rate: Float32[Array, "n"]
    initial: float = eqx.field(static=True)

    def __init__(self, width: int, blocks: int, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.first = Dense(width, width, first, (2.0 / width) ** 0.5)
        self.second = Dense(width, width, second, 1.0)
        self.rate, self.initial = jnp.full((width,), width**-0.5, jnp.float32), width**0.5 / (blocks + 1)

    def __call__(self, h: Float32[Array, "n"]) -> Float32[Array, "n"]:
        towards = unit(self.second(jax.nn.relu(self.first(h))))
        return unit(h + self.rate * self.initial * (towards - h))


class Hypersphere(Network):
    embed: Dense
    blocks: tuple[Residual, ...]
    head: Dense
    bias: Float32[Array, "out"]

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, key: PRNGKeyArray):
        keys = jax.random.split(key, blocks + 2)
        self.embed = Dense(inputs + 1, width, keys[0], (2.0 / width) ** 0.5)
        self.blocks = tuple(Residual(width, blocks, key) for key in keys[2:])
        self.head, self.bias = Dense(width, outputs, keys[1], 1.0), jnp.zeros((outputs,), jnp.float32)

    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        h = unit(self.embed(unit(jnp.append(x, SHIFT))))
        for block in self.blocks:
            h = block(h)
        return self.head(h) + self.bias

    def constrained(self) -> "Hypersphere":
        def weights(net: Any) -> list[Any]:
            blocks = [dense.weight for block in net.blocks for dense in (block.first, block.second)]
            return [net.embed.weight, *blocks, net.head.weight]

        return eqx.tree_at(weights, self, [unit(weight) for weight in weights(self)])
