"""What MBPO asks of its model: how far the elites disagree, how much of what matters to the critics they foretell, and
whether they still give numbers."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from foreplan.core.errors import Diverged
from foreplan.core.fitting import Fitting, Split, transitions
from foreplan.core.replay import Replay, Window
from foreplan.worlds.ensemble import EnsembleWorld, Member


def disagreement(
    world: EnsembleWorld, obs: Float32[Array, "n obs"], action: Float32[Array, "n action"]
) -> Float32[Array, "n"]:
    """How far the elites' predictions of the next observation lie apart: the standard deviation between them, in the
    targets' units, averaged over dimensions."""

    def predict(member: Member) -> Float32[Array, "n obs"]:
        return jax.vmap(member.predict)(obs, action)[0] / member.scaling.target_std[None]

    return jnp.mean(jnp.std(jax.lax.map(predict, world.members(world.elites)), axis=0), axis=1)


def check_finite(world: EnsembleWorld, window: Window) -> None:
    """Raise Diverged where a member's prediction of a dimension, or of the reward, is not a number."""
    members = world.members(jnp.arange(world.num_members, dtype=jnp.int32))

    def predict(member: Member) -> Float32[Array, "obs_and_reward"]:
        obs, action = window.obs[:, 0], window.action[:, 0]
        after = jax.vmap(member.predict)(obs, action)[0]
        reward = jax.vmap(member.reward)(obs, action, window.obs[:, 1])
        return jnp.sum(jnp.concatenate([after, reward[:, None]], axis=1), axis=0)

    wrong = ~np.isfinite(np.asarray(jax.device_get(jax.jit(partial(jax.lax.map, predict))(members))))
    if wrong.any():
        member, dimension = (int(i) for i in np.argwhere(wrong)[0])
        what = "the reward" if dimension == wrong.shape[1] - 1 else f"dimension {dimension} of the next observation"
        raise Diverged(f"member {member} of the model no longer gives numbers for {what}: its fit has diverged")


def foretold(
    world: EnsembleWorld,
    value: Callable[[Float32[Array, "n obs"]], Float32[Array, "n"]],
    replay: Replay,
    fitting: Fitting,
    discount: float,
) -> Float32[Array, ""]:
    """The share of the variance of temporal-difference errors, on transitions that are held out, that an elite
    foretells; on average over the elites, and 0 where it would be better to say the same of all transitions.

    r + discount V(s') - V(s) is what an action changes, so a policy can learn from a model what this says it knows.
    """
    data, elites = transitions(replay), world.members(world.elites)

    def compared(at: Int32[Array, "n"]) -> dict[str, Array]:
        step = jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], data)
        now, going_on = value(step.obs), 1.0 - step.terminated.astype(jnp.float32)
        true = step.reward + discount * going_on * value(step.next_obs) - now

        def error(member: Member) -> Float32[Array, "n"]:
            after = jax.vmap(member.predict)(step.obs, step.action)[0]
            reward = jax.vmap(member.reward)(step.obs, step.action, after)
            going_on = jax.vmap(member.going_on)(step.obs, step.action, after)
            return reward + discount * going_on * value(after) - now - true

        return {"true": true, "square": true**2, "wrong": jnp.mean(jax.lax.map(error, elites) ** 2, axis=0)}

    found = Split.of(replay, fitting).mean(compared, fitting.max_held)
    variance = jnp.maximum(found["square"] - found["true"] ** 2, 1e-12)
    return jnp.nan_to_num(jnp.maximum(0.0, 1.0 - found["wrong"] / variance))
