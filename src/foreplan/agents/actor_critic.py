"""What SAC has learned, as parts for any planner: its policy offers proposals, its critics say what lies beyond."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.sac import SAC
from foreplan.agents.sac_parts import Learner
from foreplan.worlds.value import Beyond


class Actor(eqx.Module):
    learner: Learner
    sac: SAC = eqx.field(static=True)

    def act(self, obs: Float32[Array, "obs"], key: PRNGKeyArray, explore: bool) -> Float32[Array, "action"]:
        outputs = self.learner.policy(self.sac.seen_as(self.learner, obs))[None]
        return self.sac.sample(outputs, key)[0][0] if explore else self.sac.modes(outputs)[0]


class CriticValue(Beyond):
    """Q of the policy's mode, in the units of the environment's rewards."""

    learner: Learner
    sac: SAC = eqx.field(static=True)

    def __call__(self, obs: Float32[Array, "obs"]) -> Float32[Array, ""]:
        said = self.sac.head_values(self.learner, obs[None])
        value = self.sac.lowest(said, self.learner.terminates)[0] - self.caution * jnp.std(said)
        limit = self.sac.data.scale_returns
        return value if limit is None else value * self.learner.statistics.returns.value(limit)

    def each(self, number: int) -> "CriticValue":
        """All alike: what makes a target is a choice among the heads, not one of them."""
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), self)
