"""Stateless randomness: the seed, a stream and a counter are the whole state, so a checkpoint needs no more."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.spec import Spec

Stream = Literal["init", "act", "learn", "evaluate", "reset", "refit", "adapt", "relabel"]
STREAMS: dict[Stream, int] = {name: number for number, name in enumerate(get_args(Stream))}


class Keys:
    """`keys(stream, count)` is the random key of the `count`-th draw of a stream. No implicit transfer is made."""

    def __init__(self, seed: int) -> None:
        self.root = jax.random.key(jax.device_put(np.uint32(seed)))

    def __call__(self, stream: Stream, count: int = 0) -> PRNGKeyArray:
        return _fold(self.root, jax.device_put(np.array([STREAMS[stream], count], np.uint32)))


@jax.jit
def _fold(root: PRNGKeyArray, where: Array) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.fold_in(root, where[0]), where[1])


@partial(jax.jit, static_argnums=1)
def random_actions(key: PRNGKeyArray, spec: Spec) -> Float32[Array, "env action"]:
    """Uniform in [-1, 1]; where actions are discrete, uniform among the one-hot vectors."""
    if spec.discrete:
        return jax.nn.one_hot(jax.random.randint(key, (spec.num_envs,), 0, spec.action_dim), spec.action_dim)
    return jax.random.uniform(key, (spec.num_envs, spec.action_dim), jnp.float32, -1.0, 1.0)
