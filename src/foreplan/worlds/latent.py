"""The latent world of TD-MPC2 (Hansen et al. 2024, section 3): encode, next, reward, continue, Q. No decoder."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.maths import TwoHot
from foreplan.core.model import Model
from foreplan.core.types import Spec
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.nets import MLP, Ensemble, simnorm

Latent = Float32[Array, "latent"]
Action = Float32[Array, "action"]
Scalar = Float32[Array, ""]


@dataclass(frozen=True)
class Network:
    latent: int = 512
    width: int = 512
    encoder_width: int = 256
    encoder_layers: int = 2  # the last one, into the latent, included
    layers: int = 2  # hidden ones of dynamics, reward, policy and Q
    heads: int = 5
    dropout: float = 0.01
    activation: str = "mish"
    group: int = 8  # of SimNorm
    normalise_latent: bool = True  # LayerNorm before SimNorm

    def mlp(self, inputs: int, outputs: int, key: PRNGKeyArray, **options: Any) -> MLP:
        return MLP(inputs, [self.width] * self.layers, outputs, key, activation=self.activation, **options)

    def encoder(self, obs_dim: int, key: PRNGKeyArray) -> MLP:
        widths = [self.encoder_width] * (self.encoder_layers - 1)
        options: Any = {"activation": self.activation, "normalise_last": self.normalise_latent}
        return MLP(obs_dim, widths, self.latent, key, **options)


class LatentWorld(eqx.Module):
    """Everything that the joint loss trains. Latents are simplices; reward and value are two-hot distributions."""

    encoder: MLP
    dynamics: MLP
    reward: MLP
    continuation: MLP | None  # None where an episode can never terminate
    critics: Ensemble
    two_hot: TwoHot = eqx.field(static=True)
    group: int = eqx.field(static=True)  # of SimNorm

    @classmethod
    def create(cls, spec: Spec, network: Network, two_hot: TwoHot, key: PRNGKeyArray) -> "LatentWorld":
        (obs_dim,), inputs = spec.obs_shape, network.latent + spec.action_dim
        keys = jax.random.split(key, 5)

        def critic(key: PRNGKeyArray) -> MLP:
            return network.mlp(inputs, two_hot.bins, key, dropout=network.dropout, zero_last=True)

        return cls(
            encoder=network.encoder(obs_dim, keys[0]),
            dynamics=network.mlp(inputs, network.latent, keys[1], normalise_last=network.normalise_latent),
            reward=network.mlp(inputs, two_hot.bins, keys[2], zero_last=True),
            continuation=network.mlp(network.latent, 1, keys[3]) if spec.terminates else None,
            critics=Ensemble(critic, network.heads, keys[4]),
            two_hot=two_hot,
            group=network.group,
        )

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
    stands the mean of the given critics at the policy's action, or their minimum if `pessimistic`. Hand in only the
    heads that shall be computed."""

    world: LatentWorld
    policy: MLP
    critics: Ensemble
    discount: Scalar
    pessimistic: bool = eqx.field(static=True, default=False)

    def step(self, state: Latent, action: Action, key: PRNGKeyArray) -> tuple[Latent, Scalar, Scalar]:
        reward = self.world.two_hot.decode(self.world.reward_logits(state, action))
        state = self.world.next(state, action)
        return state, reward, self.discount * jax.nn.sigmoid(self.world.continue_logit(state))

    def prior(self, state: Latent, key: PRNGKeyArray) -> Action:
        return SquashedGaussian.of(self.policy(state)).sample(key)[0]

    def value(self, state: Latent, key: PRNGKeyArray) -> Scalar:
        q = q_values(self.critics, self.world.two_hot, state, self.prior(state, key))
        return jnp.min(q) if self.pessimistic else jnp.mean(q)
