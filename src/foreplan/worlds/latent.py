"""The latent world of TD-MPC2 (Hansen et al. 2024, section 3): encode, next, reward, continue, Q. No decoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.maths import TwoHot
from foreplan.core.model import Model
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.nets import MLP, Ensemble, simnorm

Latent = Float32[Array, "latent"]
Action = Float32[Array, "action"]
Scalar = Float32[Array, ""]


class LatentWorld(eqx.Module):
    """Everything that the joint loss trains. Latents are simplices; reward and value are two-hot distributions."""

    encoder: MLP
    dynamics: MLP
    reward: MLP
    continuation: MLP | None  # None where an episode can never terminate
    critics: Ensemble
    two_hot: TwoHot = eqx.field(static=True)
    group: int = eqx.field(static=True)  # of SimNorm

    def encode(self, obs: Float32[Array, "obs"]) -> Latent:
        return simnorm(self.encoder(obs), self.group)

    def next(self, z: Latent, action: Action) -> Latent:
        return simnorm(self.dynamics(jnp.concatenate([z, action])), self.group)

    def reward_logits(self, z: Latent, action: Action) -> Float32[Array, "bins"]:
        return self.reward(jnp.concatenate([z, action]))

    def q_logits(self, z: Latent, action: Action, key: PRNGKeyArray | None = None) -> Float32[Array, "heads bins"]:
        return self.critics(jnp.concatenate([z, action]), key)

    def continue_logit(self, z: Latent) -> Scalar:
        """Log-odds that the episode goes on in the state that was reached."""
        return jnp.full((), jnp.inf) if self.continuation is None else self.continuation(z)[0]


def q_values(critics: Ensemble, two_hot: TwoHot, z: Latent, action: Action) -> Float32[Array, "heads"]:
    return jax.vmap(two_hot.decode)(critics(jnp.concatenate([z, action])))


class Imagination(Model):
    """The latent world as a model to plan in: rewards are decoded means, the discount is soft, and beyond the horizon
    stands the mean of the given critics at the policy's action. Hand in only the heads that shall be computed."""

    world: LatentWorld
    policy: MLP
    critics: Ensemble
    discount: Scalar

    def step(self, state: Latent, action: Action, key: PRNGKeyArray) -> tuple[Latent, Scalar, Scalar]:
        reward = self.world.two_hot.decode(self.world.reward_logits(state, action))
        state = self.world.next(state, action)
        return state, reward, self.discount * jax.nn.sigmoid(self.world.continue_logit(state))

    def prior(self, state: Latent, key: PRNGKeyArray) -> Action:
        return SquashedGaussian.of(self.policy(state)).sample(key)[0]

    def value(self, state: Latent, key: PRNGKeyArray) -> Scalar:
        return jnp.mean(q_values(self.critics, self.world.two_hot, state, self.prior(state, key)))
