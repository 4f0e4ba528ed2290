"""Noise whose neighbouring steps resemble each other: a body needs pushes that last (Pinneri et al. 2020)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray


def coloured(key: PRNGKeyArray, exponent: float, shape: tuple[int, ...]) -> Float32[Array, "n horizon action"]:
    """Gaussian noise of unit variance whose power falls with the frequency f as f^-exponent: 0 is white, 2 brown."""
    number, horizon, action_dim = shape
    if exponent == 0.0:
        return jax.random.normal(key, shape, jnp.float32)
    mixing = jnp.asarray(synthesis(horizon, exponent), jnp.float32)
    return jnp.einsum("tk,nka->nta", mixing, jax.random.normal(key, (number, mixing.shape[1], action_dim), jnp.float32))


@lru_cache(maxsize=32)
def synthesis(horizon: int, exponent: float) -> np.ndarray:
    """[horizon, 2 horizon]: turns independent numbers into coloured noise. Its waves have the period 2 horizon, so that
    the end of a plan does not resemble its beginning; the slowest of them stands for all that are slower."""
    period = 2 * horizon
    wave = np.arange(horizon + 1)
    power = np.maximum(wave, 1.0) ** (-exponent / 2)
    power[1:-1] *= np.sqrt(2.0)
    phase = 2 * np.pi * np.outer(np.arange(horizon), wave) / period
    basis = np.concatenate([power * np.cos(phase), (power * np.sin(phase))[:, 1:-1]], axis=1)
    return basis / np.sqrt(np.sum(basis**2, axis=1, keepdims=True))
