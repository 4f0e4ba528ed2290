"""Planning in an `EnsembleWorld`: its members as models; a user's functions in place of what need not be learned."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.fitting import transitions
from foreplan.core.model import Model
from foreplan.core.named import load
from foreplan.core.replay import Replay
from foreplan.core.types import Metrics, Spec
from foreplan.worlds.ensemble import Action, Member, Obs, Scalar

Known = Callable[[Obs, Action, Obs], Scalar]  # of (observation, action, next observation)


class Foresight(Model):
    """One member as a model to plan in; the state is an observation. A function that is given stands in for the
    network: the reward, and the probability that the episode goes on, which enters the discount softly."""

    member: Member
    reward: Known | None = eqx.field(static=True, default=None)
    continuation: Known | None = eqx.field(static=True, default=None)

    def step(self, state: Obs, action: Action, key: PRNGKeyArray) -> tuple[Obs, Scalar, Scalar]:
        after = self.member.next(state, action, key)
        reward = self.earned(state, action, after, key)
        if self.continuation is not None:
            return after, reward, self.continuation(state, action, after)
        return after, reward, self.member.going_on(state, action, after)

    def earned(self, state: Obs, action: Action, after: Obs, key: PRNGKeyArray) -> Scalar:
        return (self.reward or self.member.reward)(state, action, after)


class Switching(Model):
    """Members as one model whose every step is that of another one, drawn anew (TS-1)."""

    members: Foresight  # stacked: leaves are [members, ...]

    def step(self, state: Obs, action: Action, key: PRNGKeyArray) -> tuple[Obs, Scalar, Scalar]:
        which_key, step_key = jax.random.split(key)
        leaves = jax.tree.leaves(self.members)
        which = jax.random.randint(which_key, (), 0, leaves[0].shape[0])
        return jax.tree.map(lambda leaf: leaf[which], self.members).step(state, action, step_key)

    def earned(self, state: Obs, action: Action, after: Obs, key: PRNGKeyArray) -> Scalar:
        """On average over the members."""
        return jnp.mean(jax.vmap(lambda member: member.earned(state, action, after, key))(self.members))


def imagined(
    members: Foresight, obs: Obs, actions: Float32[Array, "time action"], particles: int = 50
) -> dict[str, Float32[Array, "time *obs"]]:
    """What becomes of `obs` under a sequence of actions, without looking up: of `particles` in each member the mean
    reward, the mean observation after every action, and where 90 % of them lie."""

    def follow(member: Foresight, key: PRNGKeyArray) -> tuple[Array, Array]:
        def step(obs: Obs, at: tuple[Action, PRNGKeyArray]) -> tuple[Obs, tuple[Obs, Scalar]]:
            after, reward, _ = member.step(obs, *at)
            return after, (after, reward)

        return jax.lax.scan(step, obs, (actions, jax.random.split(key, actions.shape[0])))[1]

    keys = jax.random.split(jax.random.key(0), particles)
    seen, rewards = jax.lax.map(lambda member: jax.vmap(lambda key: follow(member, key))(keys), members)
    seen = seen.reshape(-1, *seen.shape[2:])
    low, high = jnp.quantile(seen, jnp.array([0.05, 0.95], jnp.float32), axis=0)
    return {"reward": jnp.mean(rewards, axis=(0, 1)), "obs": jnp.mean(seen, axis=0), "low": low, "high": high}


# ---------------------------------------------------------------------- a user's functions
def known(name: str, what: str) -> Known | None:
    """The function that "module:function" names; None for "learned". Raises `UsageError` where there is none."""
    return None if name == "learned" else load(name, what)


def check(name: str, what: str, spec: Spec) -> None:
    """Raise `UsageError` where the function of this name does not give one float32."""
    function = known(name, what)
    if function is None:
        return
    shapes = spec.obs_shape, (spec.action_dim,), spec.obs_shape
    try:
        given = jax.eval_shape(function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    except Exception as error:
        detail = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise UsageError(f"{what} {name} is no function of (obs, action, next obs) to JAX: {detail}") from error
    shape, dtype = getattr(given, "shape", type(given).__name__), getattr(given, "dtype", "")
    if (shape, dtype) != ((), jnp.float32):
        raise UsageError(f"{what} {name} gives {shape} {dtype}; accepted: one float32, of shape ()")


def compare(replay: Replay, reward: str, continuation: str) -> Metrics:
    """What a user's functions say of the stored transitions, against what was really seen: `known_reward_error` is the
    largest difference, `known_end_error` the share of transitions of which the end is got wrong. Raises `UsageError`
    where a function gives what is not a number."""
    functions = {"reward": known(reward, "reward"), "end": known(continuation, "continuation")}
    found = {f"known_{name}_error": _error(replay, f, name) for name, f in functions.items() if f is not None}
    for name, error in found.items():
        if not np.isfinite(jax.device_get(error)):
            raise UsageError(f"{name}: {reward if 'reward' in name else continuation} gives what is not finite")
    return found


@partial(jax.jit, static_argnums=(1, 2))
def _error(replay: Replay, function: Known, name: str) -> Float32[Array, ""]:
    data = transitions(replay)
    stored = jnp.arange(len(data.reward), dtype=jnp.int32) < replay.size * replay.steps.reward.shape[1]
    obs, action, after = (jnp.asarray(x) for x in (data.obs, data.action, data.next_obs))
    given = jax.vmap(function)(obs, action, after)
    if name == "reward":
        return jnp.max(jnp.where(stored, jnp.abs(given - data.reward), 0.0))
    wrong = jnp.where(jnp.isfinite(given), ((given > 0.5) == data.terminated).astype(jnp.float32), jnp.nan)
    return jnp.sum(jnp.where(stored, wrong, 0.0)) / jnp.maximum(1, jnp.sum(stored)).astype(jnp.float32)
