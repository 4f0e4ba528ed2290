"""What MBPO asks of its model: how far the elites disagree, how much they know of rewards and of what actions change,
and whether they still give numbers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import Diverged
from foreplan.core.fitting import Fitting, Split, transitions
from foreplan.core.replay import Replay, Window
from foreplan.worlds.ensemble import EnsembleWorld, Member

USELESS = 0.5  # of the rewards' deviation: an error in foretelling them that is no better than knowing nothing
POLICY_ACTIONS = 8  # in a state, over which an advantage is one


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
    choose: Callable[[Float32[Array, "n obs"], PRNGKeyArray], Float32[Array, "n action"]],
    replay: Replay,
    fitting: Fitting,
    discount: float,
    key: PRNGKeyArray,
) -> Float32[Array, ""]:
    """How much the elites, in their mean, know of what actions change: the slope of true advantages on those that they
    foretell, of transitions that are held out, between 0 and 1.

    An advantage is r + discount V(s') less what the elites foretell of the policy's own actions in s, which `choose`
    draws. So what they foretell wrongly of all actions alike, which misleads no policy, does not count against them.
    """
    data, elites = transitions(replay), world.members(world.elites)

    def imagined(obs: Array, action: Array) -> Float32[Array, "n"]:
        def by(member: Member) -> Float32[Array, "n"]:
            after = jax.vmap(member.predict)(obs, action)[0]
            reward = jax.vmap(member.reward)(obs, action, after)
            return reward + discount * jax.vmap(member.going_on)(obs, action, after) * value(after)

        return jnp.mean(jax.lax.map(by, elites), axis=0)

    def compared(at: Int32[Array, "n"]) -> dict[str, Array]:
        step = jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], data)
        keys = jax.random.split(jax.random.fold_in(key, at[0]), POLICY_ACTIONS)
        usual = jnp.mean(jax.lax.map(lambda k: imagined(step.obs, choose(step.obs, k)), keys), axis=0)
        going_on = 1.0 - step.terminated.astype(jnp.float32)
        true = step.reward + discount * going_on * value(step.next_obs) - usual
        said = imagined(step.obs, step.action) - usual
        return {"true": true, "said": said, "both": true * said, "square": said**2}

    found = Split.of(replay, fitting).mean(compared, fitting.max_held)
    variance = jnp.maximum(found["square"] - found["said"] ** 2, 1e-12)
    return jnp.nan_to_num(jnp.clip((found["both"] - found["true"] * found["said"]) / variance, 0.0, 1.0))


def rewards_foretold(world: EnsembleWorld, replay: Replay, fitting: Fitting) -> Float32[Array, ""]:
    """How well the elites, in their mean, foretell rewards, between 0 and 1: at 0 their error is half the deviation of
    rewards, or more. Actions in one state differ in reward by less than states do, and a policy climbs that.

    Of all transitions, also of those trained on: an episode that is held out may have none of a rare reward, and where
    rewards are rare it is the data that a fit passes over. The deviation of rewards counts as a hundredth of their size
    at least, lest one that is always the same be called unknown for a trace of an error.
    """
    data, elites = transitions(replay), world.members(world.elites)

    def imagined(obs: Array, action: Array, member: Member) -> Float32[Array, "n"]:
        return jax.vmap(member.reward)(obs, action, jax.vmap(member.predict)(obs, action)[0])

    def compared(at: Int32[Array, "n"]) -> dict[str, Array]:
        step = jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], data)
        said = jnp.mean(jax.lax.map(partial(imagined, step.obs, step.action), elites), axis=0)
        return {"error": (step.reward - said) ** 2, "reward": step.reward, "square": step.reward**2}

    found = Split.of(replay, replace(fitting, hold_out=0.0)).mean(compared, fitting.max_held)
    variance = found["square"] - found["reward"] ** 2
    least = jnp.maximum(1e-4 * found["square"], 1e-12)
    return jnp.nan_to_num(jnp.clip(1.0 - found["error"] / (USELESS**2 * jnp.maximum(variance, least)), 0.0, 1.0))
