"""Products of matrices whose factors are rounded to bfloat16, and which are summed in float32, on CPUs.

JAX's own switch is `jax.default_matmul_precision("bfloat16")`. XLA does what it says on GPUs and TPUs; on CPUs it
ignores it, and is several times faster at such products where the processor has instructions for them, provided that
the factors are cast and lie in memory row by row. So here is x yᵀ in that form, as a primitive, for its gradients must
have it too: what JAX would derive multiplies float32 by bfloat16, which is as slow as float32.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float32


def wanted() -> bool:
    """Whether JAX is set to it, and XLA does not do it by itself. Asked when a function is traced."""
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return precision == "bfloat16" and jax.default_backend() == "cpu"


def product(x: Float32[Array, "k"], weight: Float32[Array, "n k"]) -> Float32[Array, "n"]:
    return _primitive().bind(x[None], weight)[0]


@cache
def _primitive() -> Primitive:
    """x [m, k], y [n, k] -> x yᵀ [m, n]: linear in each, and each gradient is such a product again."""
    made = Primitive("half_product")
    made.def_abstract_eval(lambda x, y: jax.core.ShapedArray((x.shape[0], y.shape[0]), jnp.float32))
    made.def_impl(jax.jit(_evaluate))
    mlir.register_lowering(made, mlir.lower_fun(_evaluate, multiple_results=False))
    ad.defbilinear(made, lambda g, x, y: made.bind(g, y.T), lambda g, x, y: made.bind(g.T, x.T))
    batching.primitive_batchers[made] = _batch
    return made


def _evaluate(x: Array, y: Array) -> Array:
    x, y = (_by_rows(factor.astype(jnp.bfloat16)) for factor in (x, y))
    return _by_rows(jax.lax.dot_general(x, y, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32))


def _by_rows(x: Array) -> Array:
    """In memory: else a transpose costs nothing and the product several times as much."""
    return with_layout_constraint(x, Layout((0, 1)))


def _batch(factors: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    """Many matrices with one: their rows are the rows of one. Pairs of matrices are multiplied in float32."""
    x, y = (f if axis is None else jnp.moveaxis(f, axis, 0) for f, axis in zip(factors, axes, strict=True))
    if axes[1] is None:
        return _primitive().bind(x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:2], -1), 0
    if axes[0] is None:
        return _primitive().bind(x, y.reshape(-1, y.shape[-1])).reshape(-1, *y.shape[:2]), 1
    return jnp.matmul(x, jnp.swapaxes(y, 1, 2)), 0
