"""Products of matrices whose factors are rounded to bfloat16, and which are summed in float32, on CPUs.

JAX's own switch is `jax.default_matmul_precision("bfloat16")`. XLA does what it says on GPUs and TPUs; on CPUs it
ignores it, and is several times faster at such products where the processor has instructions for them, provided that
the factors are cast and lie in memory row by row. So here are x y, x yᵀ and xᵀ y in that form, as a primitive whose
gradients are such products again: what JAX would derive multiplies float32 by bfloat16, which is as slow as float32.
"""

from functools import cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float32

Form = Literal["nn", "nt", "tn"]  # which factor is transposed (t), as in BLAS


def wanted() -> bool:
    """Whether JAX is set to it, and XLA does not do it by itself. Asked when a function is traced."""
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return precision == "bfloat16" and jax.default_backend() == "cpu"


def product(x: Float32[Array, "k"], weight: Float32[Array, "n k"]) -> Float32[Array, "n"]:
    return _primitive().bind(x[None], weight, form="nt")[0]


@cache
def _primitive() -> Primitive:
    """Linear in each factor."""
    made = Primitive("half_product")
    made.def_abstract_eval(_shape)
    made.def_impl(jax.jit(_evaluate, static_argnames="form"))
    mlir.register_lowering(made, mlir.lower_fun(_evaluate, multiple_results=False))
    nn, nt, tn = (partial(made.bind, form=form) for form in ("nn", "nt", "tn"))
    of_x = {"nn": lambda g, y: nt(g, y), "nt": lambda g, y: nn(g, y), "tn": lambda g, y: nt(y, g)}
    of_y = {"nn": lambda g, x: tn(x, g), "nt": lambda g, x: tn(g, x), "tn": lambda g, x: nn(x, g)}
    ad.defbilinear(made, lambda g, x, y, form: of_x[form](g, y), lambda g, x, y, form: of_y[form](g, x))
    batching.primitive_batchers[made] = _batch
    return made


def _shape(x: jax.core.ShapedArray, y: jax.core.ShapedArray, form: Form) -> jax.core.ShapedArray:
    return jax.core.ShapedArray((x.shape[form[0] == "t"], y.shape[form[1] == "n"]), jnp.float32)


def _evaluate(x: Array, y: Array, form: Form) -> Array:
    x = x.T if form == "tn" else x
    rows, contracted = len(x), ((1,), (1 if form == "nt" else 0,))
    square = rows >= 64 and rows == y.shape[form != "nt"]
    x, y = (_by_rows(factor.astype(jnp.bfloat16)) for factor in (x, y))
    x = _by_rows(jnp.pad(x, ((0, 16), (0, 0)))) if square else x  # XLA takes up to five times as long for a square
    found = jax.lax.dot_general(x, y, (contracted, ((), ())), preferred_element_type=jnp.float32)
    return _by_rows(found)[:rows]


def _by_rows(x: Array) -> Array:
    """In memory: else a transpose costs nothing and the product several times as much."""
    return with_layout_constraint(x, Layout((0, 1)))


def _batch(factors: tuple[Array, Array], axes: tuple[int | None, int | None], form: Form) -> tuple[Array, int]:
    """Many matrices with one: their rows are the rows of one. Pairs of matrices are multiplied in float32."""
    x, y = (f if axis is None else jnp.moveaxis(f, axis, 0) for f, axis in zip(factors, axes, strict=True))
    x = jnp.swapaxes(x, -2, -1) if form == "tn" else x
    if axes[1] is None:
        found = _primitive().bind(x.reshape(-1, x.shape[-1]), y, form="nt" if form == "nt" else "nn")
        return found.reshape(*x.shape[:2], -1), 0
    if axes[0] is None:
        y = y if form == "nt" else jnp.swapaxes(y, 1, 2)
        return _primitive().bind(x, y.reshape(-1, y.shape[-1]), form="nt").reshape(-1, *y.shape[:2]), 1
    return jnp.matmul(x, jnp.swapaxes(y, 1, 2) if form == "nt" else y), 0
