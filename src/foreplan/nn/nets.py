"""Layers and perceptrons as pytrees of arrays, written for ONE unbatched vector; `vmap` gives the batch.

A product is `x @ weight.T`, so that `vmap` leaves the batch axis in front, where JAX's rules for the elementwise
operations that follow want it: with `weight @ x` every layer would be followed by a transpose in memory.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.nn import half

E = TypeVar("E", bound="Ensemble")
Activation = Callable[[Float32[Array, "*n"]], Float32[Array, "*n"]]


def _sloped(slope: Activation) -> Callable[[Activation], Activation]:
    """For a function whose derivative is `slope`: with fewer divisions than what JAX would derive."""

    def with_slope(function: Activation) -> Activation:
        sloped = jax.custom_jvp(function)
        sloped.defjvps(lambda dx, y, x: dx * slope(x))
        return sloped

    return with_slope


def _mish_slope(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    e = jnp.exp(jnp.minimum(x, 20.0))
    over = 1.0 / (e * (e + 2.0) + 2.0)
    return over * e * (e + 2.0 + 4.0 * x * (e + 1.0) * over)


@_sloped(_mish_slope)
def mish(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """x tanh(softplus(x)) with one exponential: tanh(log(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2)."""
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def _silu_slope(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    share = 1.0 / (1.0 + jnp.exp(-x))
    return share * (1.0 + x * (1.0 - share))


@_sloped(_silu_slope)
def silu(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    return x / (1.0 + jnp.exp(-x))


ACTIVATIONS: dict[str, Activation] = {
    "mish": mish,
    "silu": silu,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "tanh": jnp.tanh,
}


def simnorm(x: Float32[Array, "n"], group: int = 8) -> Float32[Array, "n"]:
    """Softmax within groups of neighbours (TD-MPC2, equation 7): a latent of bounded, sparse simplices."""
    return jax.nn.softmax(x.reshape(-1, group), axis=-1).reshape(-1)


def layer_norm(x: Float32[Array, "n"]) -> Float32[Array, "n"]:
    return _standardised(x)[0]


def _standardised(x: Float32[Array, "n"], epsilon: float = 1e-5) -> tuple[Float32[Array, "n"], Float32[Array, ""]]:
    """(with no mean and unit variance, 1 / the standard deviation that it had)"""
    mean = jnp.mean(x)
    variance = jnp.maximum(0.0, jnp.mean(x * x) - mean * mean)
    precision = jax.lax.rsqrt(variance + epsilon)
    return (x - mean) * precision, precision


def _normalise_forth(x: Array, scale: Array, offset: Array, activation: str) -> tuple[Array, tuple[Array, ...]]:
    return normalise(x, scale, offset, activation), (x, scale, offset)


def _normalise_back(activation: str, kept: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    x, scale, offset = kept
    unit, precision = _standardised(x)
    if activation != "none":
        (gradient,) = jax.vjp(ACTIVATIONS[activation], unit * scale + offset)[1](gradient)
    of_unit = gradient * scale
    of_x = precision * (of_unit - jnp.mean(of_unit) - unit * jnp.mean(of_unit * unit))
    return of_x, gradient * unit, gradient


def _with_gradient(function: Callable[..., Array]) -> Callable[..., Array]:
    differentiable = jax.custom_vjp(function, nondiff_argnums=(3,))
    differentiable.defvjp(_normalise_forth, _normalise_back)
    return differentiable


@_with_gradient
def normalise(
    x: Float32[Array, "n"], scale: Float32[Array, "n"], offset: Float32[Array, "n"], activation: str
) -> Float32[Array, "n"]:
    """LayerNorm, scale and offset, activation. The gradient recomputes all this from `x`, so that of each layer one
    array is kept instead of five: what a batch leaves behind then fits the cache. It is written out, which takes less
    time than what JAX derives, and is of reverse mode alone."""
    x = layer_norm(x) * scale + offset
    return x if activation == "none" else ACTIVATIONS[activation](x)


def turned(weight: Float32[Array, "out in"]) -> Float32[Array, "in out"]:
    """The transpose. Of a layer that widens, XLA on CPUs is several times faster at the gradient as [in, out] than as
    [out, in], which it would make of it: the barrier keeps it from folding the transpose into the product."""
    outputs, inputs = weight.shape
    return jax.lax.optimization_barrier(weight.T) if 2 * inputs <= outputs else weight.T


def product(x: Float32[Array, "in"], weight: Float32[Array, "out in"]) -> Float32[Array, "out"]:
    """W x, in the precision that `jax.default_matmul_precision` sets."""
    return half.product(x, weight) if half.wanted() else x @ turned(weight)


class Linear(eqx.Module):
    """W x + b, W truncated normal with standard deviation `std` (before truncation at two of them) or, where that is
    None, orthogonal; b zero."""

    weight: Float32[Array, "out in"]
    bias: Float32[Array, "out"]

    def __init__(self, inputs: int, outputs: int, key: PRNGKeyArray, std: float | None = 0.02):
        if std is None:
            self.weight = jax.nn.initializers.orthogonal()(key, (outputs, inputs), jnp.float32)
        else:
            self.weight = std * jax.random.truncated_normal(key, -2.0, 2.0, (outputs, inputs), jnp.float32)
        self.bias = jnp.zeros((outputs,), jnp.float32)

    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        return product(x, self.weight) + self.bias


class Block(eqx.Module):
    """Linear, dropout, LayerNorm with scale and offset if any, activation: the NormedLinear of TD-MPC2."""

    linear: Linear
    scale: Float32[Array, "out"] | None
    offset: Float32[Array, "out"] | None
    activation: str = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        key: PRNGKeyArray,
        activation: str = "mish",
        dropout: float = 0.0,
        *,
        norm: bool = True,
        std: float | None = 0.02,
    ):
        self.linear = Linear(inputs, outputs, key, std)
        self.scale = jnp.ones((outputs,), jnp.float32) if norm else None
        self.offset = jnp.zeros((outputs,), jnp.float32) if norm else None
        self.activation, self.dropout = activation, dropout

    def __call__(self, x: Float32[Array, "in"], key: PRNGKeyArray | None = None) -> Float32[Array, "out"]:
        x = self.linear(x)
        if self.dropout > 0 and key is not None:
            keep = jax.random.bernoulli(key, 1.0 - self.dropout, x.shape)
            x = jnp.where(keep, x / (1.0 - self.dropout), 0.0)
        if self.scale is None or self.offset is None:
            return ACTIVATIONS[self.activation](x)
        return normalise(x, self.scale, self.offset, self.activation)


class MLP(eqx.Module):
    """Blocks of the given widths, then a plain linear layer, or one with LayerNorm. `key` switches the dropout of the
    first block on. Without `norm` there is no LayerNorm in the blocks, and all weights begin orthogonal."""

    blocks: tuple[Block, ...]
    last: Linear | Block

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        outputs: int,
        key: PRNGKeyArray,
        *,
        activation: str = "mish",
        dropout: float = 0.0,
        zero_last: bool = False,
        normalise_last: bool = False,
        norm: bool = True,
    ):
        keys, std = jax.random.split(key, len(widths) + 1), 0.02 if norm else None
        sizes = [inputs, *widths]
        self.blocks = tuple(
            Block(sizes[i], sizes[i + 1], keys[i], activation, dropout if i == 0 else 0.0, norm=norm, std=std)
            for i in range(len(widths))
        )
        if normalise_last:
            self.last = Block(sizes[-1], outputs, keys[-1], "none")
        else:
            self.last = Linear(sizes[-1], outputs, keys[-1], std=0.0 if zero_last else std)

    def __call__(self, x: Float32[Array, "in"], key: PRNGKeyArray | None = None) -> Float32[Array, "out"]:
        for block in self.blocks:
            x = block(x, key)
            key = None
        return self.last(x)


class Perceptron(eqx.Module):
    """Linear layers with an activation between them, and nothing else: the network of PETS, MBPO and SAC. Weights are
    truncated normal with standard deviation 1 / (2 sqrt(inputs))."""

    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(
        self, inputs: int, widths: Sequence[int], outputs: int, key: PRNGKeyArray, activation: str = "silu"
    ) -> None:
        sizes = [inputs, *widths, outputs]
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(Linear(i, o, k, std=0.5 / i**0.5) for i, o, k in zip(sizes, sizes[1:], keys, strict=False))
        self.activation = activation

    def __call__(self, x: Float32[Array, "in"]) -> Float32[Array, "out"]:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class Ensemble(eqx.Module):
    """Networks of one shape, their weights stacked on a leading axis of heads."""

    members: Any

    def __init__(self, make: Callable[[PRNGKeyArray], Any], heads: int, key: PRNGKeyArray):
        self.members = jax.vmap(make)(jax.random.split(key, heads))

    @property
    def heads(self) -> int:
        return jax.tree.leaves(self.members)[0].shape[0]

    def choose(self: E, number: int, key: PRNGKeyArray) -> E:
        """`number` different heads at random, chosen before the forward pass so that no other is computed."""
        if number >= self.heads:
            return self
        index = jax.random.permutation(key, self.heads)[:number]
        return eqx.tree_at(lambda e: e.members, self, jax.tree.map(lambda w: w[index], self.members))

    def each(self) -> list[Any]:
        """The networks one by one. One product a head: XLA's batched products are three times slower on a CPU. `split`
        rather than indexing, since the gradient of one split is one concatenation."""
        leaves, structure = jax.tree.flatten(self.members)
        heads = zip(*(jax.lax.split(leaf, [1] * self.heads) for leaf in leaves), strict=True)
        return [jax.tree.unflatten(structure, [leaf[0] for leaf in head]) for head in heads]

    def __call__(self, x: Float32[Array, "in"], key: PRNGKeyArray | None = None) -> Float32[Array, "heads out"]:
        keys = [None] * self.heads if key is None else list(jax.random.split(key, self.heads))
        return jnp.stack([member(x, key) for member, key in zip(self.each(), keys, strict=True)])
