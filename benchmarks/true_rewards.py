"""The rewards of JAX-native tasks as functions of what is observed, (obs, action, next obs), for `parts.py --reward`.
That of `jax/cartpole-pets` stands in `foreplan.envs.jax_native:tip_reward`."""

import jax.numpy as jnp
from jaxtyping import Array, Float32


def pendulum(obs: Float32[Array, "3"], action: Float32[Array, "1"], after: Float32[Array, "3"]) -> Float32[Array, ""]:
    """Of `jax/pendulum`: angle, velocity and torque before the step."""
    del after
    torque = 2.0 * jnp.clip(action[0], -1.0, 1.0)
    return -(jnp.arctan2(obs[1], obs[0]) ** 2 + 0.1 * obs[2] ** 2 + 0.001 * torque**2)


def swingup(obs: Float32[Array, "5"], action: Float32[Array, "1"], after: Float32[Array, "5"]) -> Float32[Array, ""]:
    """Of `jax/cartpole-swingup` without action repeat: upright, centred, slow after the step, and pushed gently."""
    del obs
    position, cos, _, _, velocity = after
    upright, gentle = (cos + 1.0) / 2.0, (5.0 - jnp.clip(action[0], -1.0, 1.0) ** 2) / 5.0
    centred = (1.0 + 0.1 ** ((position / 2.0) ** 2)) / 2.0
    return upright * centred * gentle * (1.0 + 0.1 ** ((velocity / 5.0) ** 2)) / 2.0
