"""Batch Renormalisation (Ioffe 2017), and the perceptron of CrossQ that it makes trainable without target networks
(Bhatt et al. 2024), with its rows kept at unit length where asked for (Palenicek et al. 2025)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.nn.nets import Linear
from foreplan.nn.network import Batch, Network

EPSILON = 1e-3
RATE = 0.01  # of the running statistics
MAX_RATIO, MAX_SHIFT = 3.0, 5.0  # of the batch's statistics against the running ones (Ioffe 2017, section 4)


class BatchRenorm(eqx.Module):
    """While acting it normalises by running statistics, so that an output depends on its own input alone. While
    training it normalises by the batch and corrects towards the running ones; plain BatchNorm during the warm-up."""

    scale: Float32[Array, "n"]
    offset: Float32[Array, "n"]
    mean: Float32[Array, "n"]
    variance: Float32[Array, "n"]
    batches: Float32[Array, ""]
    warmup: int = eqx.field(static=True)

    def __init__(self, size: int, warmup: int):
        self.scale, self.offset = jnp.ones((size,), jnp.float32), jnp.zeros((size,), jnp.float32)
        self.mean, self.variance = jnp.zeros((size,), jnp.float32), jnp.ones((size,), jnp.float32)
        self.batches, self.warmup = jnp.zeros((), jnp.float32), warmup

    def __call__(self, x: Float32[Array, "n"]) -> Float32[Array, "n"]:
        return self.scale * (x - self.mean) * jax.lax.rsqrt(self.variance + EPSILON) + self.offset

    def batch(self, xs: Float32[Array, "batch n"]) -> Float32[Array, "batch n"]:
        mean, variance = jnp.mean(xs, axis=0), jnp.var(xs, axis=0)
        running = jnp.sqrt(self.variance + EPSILON)
        ratio = jnp.clip(jnp.sqrt(variance + EPSILON) / running, 1.0 / MAX_RATIO, MAX_RATIO)
        shift = jnp.clip((mean - self.mean) / running, -MAX_SHIFT, MAX_SHIFT)
        warm = self.batches >= self.warmup
        ratio, shift = jax.lax.stop_gradient((jnp.where(warm, ratio, 1.0), jnp.where(warm, shift, 0.0)))
        normalised = (xs - mean[None]) * jax.lax.rsqrt(variance + EPSILON)[None]
        return self.scale[None] * (normalised * ratio[None] + shift[None]) + self.offset[None]

    def observed(self, xs: Float32[Array, "batch n"]) -> "BatchRenorm":
        mean = self.mean + RATE * (jnp.mean(xs, axis=0) - self.mean)
        variance = self.variance + RATE * (jnp.var(xs, axis=0) - self.variance)
        return eqx.tree_at(lambda b: (b.mean, b.variance, b.batches), self, (mean, variance, self.batches + 1.0))


class NormalisedPerceptron(Network):
    """BatchRenorm before every linear layer, ReLU after every one but the last."""

    norms: tuple[BatchRenorm, ...]
    linears: tuple[Linear, ...]
    weight_norm: bool = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, ...],
        outputs: int,
        key: PRNGKeyArray,
        *,
        weight_norm: bool = False,
        warmup: int = 100_000,
    ):
        sizes = (inputs, *widths, outputs)
        keys = jax.random.split(key, len(sizes) - 1)
        self.norms = tuple(BatchRenorm(size, warmup) for size in sizes[:-1])
        self.linears = tuple(
            Linear(sizes[i], sizes[i + 1], keys[i], std=sizes[i] ** -0.5) for i in range(len(sizes) - 1)
        )
        self.weight_norm = weight_norm

    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        for norm, linear in zip(self.norms[:-1], self.linears[:-1], strict=True):
            x = jax.nn.relu(linear(norm(x)))
        return self.linears[-1](self.norms[-1](x))

    def inputs(self, xs: Batch) -> list[Float32[Array, "batch _"]]:
        """What reaches each BatchRenorm in training."""
        reached = [xs]
        for norm, linear in zip(self.norms[:-1], self.linears[:-1], strict=True):
            reached.append(jax.nn.relu(jax.vmap(linear)(norm.batch(reached[-1]))))
        return reached

    def batch(self, xs: Batch, key: PRNGKeyArray | None = None) -> Float32[Array, "batch out"]:
        del key
        return jax.vmap(self.linears[-1])(self.norms[-1].batch(self.inputs(xs)[-1]))

    def observed(self, xs: Batch) -> "NormalisedPerceptron":
        norms = tuple(norm.observed(reached) for norm, reached in zip(self.norms, self.inputs(xs), strict=True))
        return eqx.tree_at(lambda n: n.norms, self, norms)

    def constrained(self) -> "NormalisedPerceptron":
        if not self.weight_norm:
            return self
        unit = [w / jnp.linalg.norm(w, axis=-1, keepdims=True) for w in (linear.weight for linear in self.linears[:-1])]
        return eqx.tree_at(lambda n: [linear.weight for linear in n.linears[:-1]], self, unit)
