"""Planning in an `EnsembleWorld`: its members as models."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.model import Model
from foreplan.worlds.ensemble import Action, Member, Obs, Scalar
from foreplan.worlds.known import Known


class Foresight(Model):
    """One member as a model to plan in; the state is an observation. A reward that is given stands in for the network;
    the probability that the episode goes on enters the discount softly; `effort` is the price of an action's mean
    square."""

    member: Member
    reward: Known | None = eqx.field(static=True, default=None)
    effort: float = eqx.field(static=True, default=0.0)

    def step(self, state: Obs, action: Action, key: PRNGKeyArray) -> tuple[Obs, Scalar, Scalar]:
        after = self.member.next(state, action, key)
        reward = self.earned(state, action, after, key) - self.effort * jnp.mean(action**2)
        return after, reward, self.member.going_on(state, action, after)

    def earned(self, state: Obs, action: Action, after: Obs, key: PRNGKeyArray) -> Scalar:
        return (self.reward or self.member.reward)(state, action, after)


class Switching(Model):
    """Members as one model whose every step is that of another one, drawn anew (TS-1)."""

    members: Model  # stacked: leaves are [members, ...]

    def step(self, state: Obs, action: Action, key: PRNGKeyArray) -> tuple[Obs, Scalar, Scalar]:
        which_key, step_key = jax.random.split(key)
        leaves = jax.tree.leaves(self.members)
        which = jax.random.randint(which_key, (), 0, leaves[0].shape[0])
        return jax.tree.map(lambda leaf: leaf[which], self.members).step(state, action, step_key)

    def earned(self, state: Obs, action: Action, after: Obs, key: PRNGKeyArray) -> Scalar:
        """On average over the members."""
        return jnp.mean(jax.vmap(lambda member: member.earned(state, action, after, key))(self.members))

    def value(self, state: Obs, key: PRNGKeyArray) -> Scalar:
        """On average over the members."""
        return jnp.mean(jax.vmap(lambda member: member.value(state, key))(self.members))


def imagined(
    members: Model, obs: Obs, actions: Float32[Array, "time action"], particles: int = 50
) -> dict[str, Float32[Array, "time *obs"]]:
    """What becomes of `obs` under a sequence of actions, without looking up: of `particles` in each member the mean
    reward, the mean observation after every action, and where 90 % of them lie."""

    def follow(member: Model, key: PRNGKeyArray) -> tuple[Array, Array]:
        def step(obs: Obs, at: tuple[Action, PRNGKeyArray]) -> tuple[Obs, tuple[Obs, Scalar]]:
            after, reward, _ = member.step(obs, *at)
            return after, (after, reward)

        return jax.lax.scan(step, obs, (actions, jax.random.split(key, actions.shape[0])))[1]

    keys = jax.random.split(jax.random.key(0), particles)
    seen, rewards = jax.lax.map(lambda member: jax.vmap(lambda key: follow(member, key))(keys), members)
    seen = seen.reshape(-1, *seen.shape[2:])
    low, high = jnp.quantile(seen, jnp.array([0.05, 0.95], jnp.float32), axis=0)
    return {"reward": jnp.mean(rewards, axis=(0, 1)), "obs": jnp.mean(seen, axis=0), "low": low, "high": high}
