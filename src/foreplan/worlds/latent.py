"""The latent world of TD-MPC2 (Hansen et al. 2024, section 3): encode, next, reward, continue, Q. No decoder."""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.maths import TwoHot, symlog
from foreplan.core.model import Model
from foreplan.core.types import Spec
from foreplan.nn.dists import NoisyTanh, SquashedGaussian
from foreplan.nn.nets import MLP, Block, Ensemble, simnorm

Latent = Float32[Array, "latent"]
Action = Float32[Array, "action"]
Scalar = Float32[Array, ""]
Sees = Literal["action", "reward", "next"]  # of critics: Q(z, a); Q(z, a, R(z, a)); R(z, a) + discount V(next latent)


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
    group: int = 8  # of SimNorm; 0: none
    normalise_latent: bool = True  # LayerNorm before SimNorm
    layer_norm: Literal["hidden", "critic"] = "hidden"  # critic: in its first layer alone, and tanh there
    policy_noise: float | None = None  # deviation of the policy's noise; None: learned

    def mlp(self, inputs: int, outputs: int, key: PRNGKeyArray, **options: Any) -> MLP:
        return self._net(inputs, [self.width] * self.layers, outputs, key, **options)

    def encoder(self, obs_dim: int, key: PRNGKeyArray) -> MLP:
        widths = [self.encoder_width] * (self.encoder_layers - 1)
        return self._net(obs_dim, widths, self.latent, key, normalise_last=self.normalise_latent)

    def critic(self, inputs: int, outputs: int, key: PRNGKeyArray) -> MLP:
        net = self.mlp(inputs, outputs, key, dropout=self.dropout, zero_last=True)
        if self.layer_norm == "hidden":
            return net
        return eqx.tree_at(lambda net: net.blocks[0], net, Block(inputs, self.width, key, "tanh", std=None))

    def policy(self, action_dim: int, key: PRNGKeyArray) -> MLP:
        return self.mlp(self.latent, action_dim * (2 if self.policy_noise is None else 1), key)

    def _net(self, inputs: int, widths: list[int], outputs: int, key: PRNGKeyArray, **options: Any) -> MLP:
        norm = self.layer_norm == "hidden"
        return MLP(inputs, widths, outputs, key, activation=self.activation, norm=norm, **options)


class LatentWorld(eqx.Module):
    """Everything that the joint loss trains. Latents are simplices; reward and value are two-hot distributions."""

    encoder: MLP
    dynamics: MLP
    reward: MLP
    continuation: MLP | None  # None where an episode can never terminate
    critics: Ensemble
    two_hot: TwoHot = eqx.field(static=True)
    group: int = eqx.field(static=True)  # of SimNorm; 0: none
    sees: Sees = eqx.field(static=True, default="action")
    policy_noise: float | None = eqx.field(static=True, default=None)
    values: TwoHot | None = eqx.field(static=True, default=None)  # of the critics; None: as of rewards
    scale: Scalar | None = None  # what a value of 1 stands for in `values`; follows the returns, and is not trained

    @classmethod
    def create(
        cls,
        spec: Spec,
        network: Network,
        two_hot: TwoHot,
        key: PRNGKeyArray,
        sees: Sees = "action",
        values: TwoHot | None = None,
    ) -> "LatentWorld":
        (obs_dim,), inputs = spec.obs_shape, network.latent + spec.action_dim
        keys, seen = jax.random.split(key, 5), {"action": inputs, "reward": inputs + 1, "next": network.latent}[sees]

        def critic(key: PRNGKeyArray) -> MLP:
            return network.critic(seen, (values or two_hot).bins, key)

        return cls(
            encoder=network.encoder(obs_dim, keys[0]),
            dynamics=network.mlp(inputs, network.latent, keys[1], normalise_last=network.normalise_latent),
            reward=network.mlp(inputs, two_hot.bins, keys[2], zero_last=True),
            continuation=network.mlp(network.latent, 1, keys[3]) if spec.terminates else None,
            critics=Ensemble(critic, network.heads, keys[4]),
            two_hot=two_hot,
            group=network.group,
            sees=sees,
            policy_noise=network.policy_noise,
            values=values,
            scale=None if values is None else jnp.ones(()),
        )

    def encode(self, obs: Float32[Array, "obs"]) -> Latent:
        return self.latent(self.encoder(obs))

    def next(self, z: Latent, action: Action) -> Latent:
        return self.latent(self.dynamics(jnp.concatenate([z, action])))

    def latent(self, x: Latent) -> Latent:
        return simnorm(x, self.group) if self.group else x

    def reward_logits(self, z: Latent, action: Action) -> Float32[Array, "bins"]:
        return self.reward(jnp.concatenate([z, action]))

    def chosen(self, policy: MLP, z: Latent) -> SquashedGaussian | NoisyTanh:
        """What the policy does, as a distribution."""
        outputs = policy(z)
        return SquashedGaussian.of(outputs) if self.policy_noise is None else NoisyTanh(outputs, self.policy_noise)

    def continue_logit(self, z: Latent) -> Scalar:
        """Log-odds that the episode goes on in the state that was reached."""
        return jnp.full((), jnp.inf) if self.continuation is None else self.continuation(z)[0]

    def seen(self, z: Latent, action: Action, z_next: Latent | None = None) -> Float32[Array, "seen"]:
        """What the critics are asked about, by `sees`."""
        if self.sees == "next":
            return self.next(z, action) if z_next is None else z_next
        if self.sees == "action":
            return jnp.concatenate([z, action])
        head = jax.lax.stop_gradient(self.reward)  # fitted to rewards alone
        reward = self.two_hot.decode(head(jnp.concatenate([z, action])))
        return jnp.concatenate([z, action, symlog(reward)[None]])

    def q_logits(
        self, z: Latent, action: Action, key: PRNGKeyArray | None = None, z_next: Latent | None = None
    ) -> Float32[Array, "heads bins"]:
        """What the critics say: of Q, or, where they see the next latent, of the value there."""
        return self.critics(self.seen(z, action, z_next), key)

    def value(self, logits: Float32[Array, "bins"]) -> Scalar:
        """What a critic says, in units of the rewards."""
        if self.values is None or self.scale is None:
            return self.two_hot.decode(logits)
        return self.values.decode(logits) * jax.lax.stop_gradient(self.scale)

    def value_loss(self, logits: Float32[Array, "bins"], target: Scalar) -> Scalar:
        """How far that is from a target."""
        if self.values is None or self.scale is None:
            return self.two_hot.loss(logits, target)
        return self.values.loss(logits, target / jax.lax.stop_gradient(self.scale))

    def q_values(self, critics: Ensemble, z: Latent, action: Action, discount: Scalar) -> Float32[Array, "heads"]:
        """Q by these critics. Where they see the next latent, it is R + discount V(next)."""
        seen = self.seen(z, action)
        values = jax.vmap(self.value)(critics(seen))
        if self.sees != "next":
            return values
        reward = self.two_hot.decode(self.reward_logits(z, action))
        return reward + discount * jax.nn.sigmoid(self.continue_logit(seen)) * values


class Imagination(Model):
    """The latent world as a model to plan in: rewards are decoded means, the discount is soft, and beyond the horizon
    stands the mean of the given critics at the policy's action, or their minimum if `pessimistic`. Hand in only the
    heads that shall be computed. For `weights` see `Model.depths`."""

    world: LatentWorld
    policy: MLP
    critics: Ensemble
    discount: Scalar
    pessimistic: bool = eqx.field(static=True, default=False)
    weights: Float32[Array, "horizon"] | None = None

    def step(self, state: Latent, action: Action, key: PRNGKeyArray) -> tuple[Latent, Scalar, Scalar]:
        reward = self.world.two_hot.decode(self.world.reward_logits(state, action))
        state = self.world.next(state, action)
        return state, reward, self.discount * jax.nn.sigmoid(self.world.continue_logit(state))

    def prior(self, state: Latent, key: PRNGKeyArray) -> Action:
        return self.world.chosen(self.policy, state).sample(key)[0]

    def value(self, state: Latent, key: PRNGKeyArray) -> Scalar:
        if self.world.sees == "next":  # the value of a latent itself
            values = jax.vmap(self.world.value)(self.critics(state))
        else:
            values = self.world.q_values(self.critics, state, self.prior(state, key), self.discount)
        return jnp.min(values) if self.pessimistic else jnp.mean(values)

    def depths(self, horizon: int) -> Float32[Array, "horizon"] | None:
        return self.weights
