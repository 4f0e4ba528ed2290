"""Termination and reward functions of one (obs, action, next obs), right and wrong, as users have written them."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def hopper(obs: Any, action: Any, after: Any) -> Any:
    """gym/Hopper-v5: `sims.rewards.gymnasium.biped`, of what is observed."""
    healthy = jnp.all(jnp.abs(after[1:]) < 100.0) & (after[0] > 0.7) & (jnp.abs(after[1]) < 0.2)
    return ~healthy


def hopper_misread(obs: Any, action: Any, after: Any) -> Any:
    """The published slip (PITFALLS 6): the absolute value of a comparison, so that -150 is healthy."""
    bounded = jnp.all(jnp.abs((after[1:] < 100.0).astype(jnp.float32)) > 0.0)
    return ~(bounded & (after[0] > 0.7) & (jnp.abs(after[1]) < 0.2))


def walker(obs: Any, action: Any, after: Any) -> Any:
    """gym/Walker2d-v5's, which is not Hopper's (PITFALLS 7)."""
    return ~((after[0] > 0.8) & (after[0] < 2.0) & (jnp.abs(after[1]) < 1.0))


def beyond(obs: Any, action: Any, after: Any) -> Any:
    """Where the first observation is more than 3 from 0, as in `toys.Walk`."""
    return jnp.abs(after[0]) > 3.0


def near(obs: Any, action: Any, after: Any) -> Any:
    return jnp.abs(after[0]) < 0.5


def slow(obs: Any, action: Any, after: Any) -> Any:
    """Right about no end but one."""
    return after[0] < 3.0


def squared(obs: Any, action: Any, after: Any) -> Any:
    """The reward of `toys.Walk`."""
    return -(obs[0] ** 2)


def unsigned(obs: Any, action: Any, after: Any) -> Any:
    return obs[0] ** 2


def rounded(obs: Any, action: Any, after: Any) -> Any:
    return -(obs[0] ** 2) * (1.0 + 1e-5)


def undefined(obs: Any, action: Any, after: Any) -> Any:
    return jnp.sqrt(-1.0 - obs[0] ** 2)


def pays(obs: Any, action: Any, after: Any) -> Any:
    return after[0] - 0.1 * jnp.sum(action**2)


def vector(obs: Any, action: Any, after: Any) -> Any:
    return jnp.abs(after) > 1.0


def number(obs: Any, action: Any, after: Any) -> Any:
    return jnp.float32(0.0)


def in_numpy(obs: Any, action: Any, after: Any) -> Any:
    return bool(np.abs(np.asarray(after)).max() > 1.0)


def of_two(obs: Any, after: Any) -> Any:
    return after[0] > 1.0
