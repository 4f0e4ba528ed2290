"""Learned dynamics over observations: one deterministic network, or an ensemble of probabilistic ones (Chua et al.
2018, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models", section 4).

A member has up to three networks, each with a loss of its own: the next observation from (observation, action), reward
and continuation from (observation, action, next observation), as a user's functions have it (`worlds/known.py`).
Everything is written for ONE member and one transition; how it is fitted stands in `worlds/fitting.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.maths import softplus
from foreplan.core.types import LearnedParts, Spec
from foreplan.nn.nets import ACTIVATIONS, Perceptron
from foreplan.worlds.known import Action, Ends, Obs

Scalar = Float32[Array, ""]


@dataclass(frozen=True)
class Network:
    """Sizes of the ensemble; the defaults are MBPO's. One member that is not probabilistic is the plain form."""

    members: int = 7
    elites: int = 5  # the members, best on the hold-out set, that are planned in
    probabilistic: bool = True
    layers: int = 4  # hidden ones
    width: int = 200
    head_layers: int = 2  # of reward and continuation
    head_width: int = 64
    activation: str = "silu"

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.members:
            raise ValueError(f"elites must lie in [1, members], not {self.elites} of {self.members}")
        if min(self.layers, self.width, self.head_layers, self.head_width) < 1:
            raise ValueError("layers and widths must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; accepted: {', '.join(ACTIVATIONS)}")


class Scaling(eqx.Module):
    """Per-dimension units of what goes into the networks and of what comes out, from the training split alone."""

    input_mean: Float32[Array, "*m obs_action"]
    input_std: Float32[Array, "*m obs_action"]
    target_mean: Float32[Array, "*m obs"]
    target_std: Float32[Array, "*m obs"]
    residual: Float32[
        Array, "*m obs"
    ]  # 1 where the target is the change of the observation, 0 where it is the next one
    reward_mean: Float32[Array, "*m"]
    reward_std: Float32[Array, "*m"]
    odds: Float32[Array, "*m"]  # log of how many more transitions go on than terminate

    @classmethod
    def create(cls, obs_dim: int, action_dim: int) -> "Scaling":
        zeros, ones = jnp.zeros, jnp.ones
        inputs = obs_dim + action_dim
        return cls(
            zeros(inputs), ones(inputs), zeros(obs_dim), ones(obs_dim), ones(obs_dim), zeros(()), ones(()), zeros(())
        )


class Gaussian(eqx.Module):
    """A network's mean and log variance, the latter softly clamped between learned bounds (Chua et al. 2018, appendix
    A.1); without bounds the mean alone, of variance 1."""

    net: Perceptron
    bounds: tuple[Float32[Array, "*m out"], Float32[Array, "*m out"]] | None  # low, high

    def __init__(self, inputs: int, outputs: int, key: PRNGKeyArray, size: Network) -> None:
        widths, both = [size.width] * size.layers, 2 if size.probabilistic else 1
        self.net = Perceptron(inputs, widths, both * outputs, key, size.activation)
        self.bounds = (
            (jnp.full((outputs,), -10.0, jnp.float32), jnp.full((outputs,), 0.5, jnp.float32))
            if size.probabilistic
            else None
        )

    def __call__(self, x: Float32[Array, "in"]) -> tuple[Float32[Array, "out"], Float32[Array, "out"]]:
        if self.bounds is None:
            mean = self.net(x)
            return mean, jnp.zeros_like(mean)
        (mean, raw), (low, high) = jnp.split(self.net(x), 2), self.bounds
        return mean, low + softplus(high - softplus(high - raw) - low)


class Member(eqx.Module):
    """What one member has learned, in natural units. `nets` has "dynamics", and "reward" and "continuation" where they
    are learned."""

    nets: dict[str, Any]
    scaling: Scaling
    ends: Ends | None = None  # a user's termination function

    def inputs(self, obs: Obs, action: Action) -> Float32[Array, "obs_action"]:
        return (jnp.concatenate([obs, action]) - self.scaling.input_mean) / self.scaling.input_std

    def outcome(self, obs: Obs, action: Action, after: Obs) -> Float32[Array, "twice_obs_action"]:
        """What reward and continuation are seen from."""
        mean, std = (x[: obs.shape[0]] for x in (self.scaling.input_mean, self.scaling.input_std))
        return jnp.concatenate([self.inputs(obs, action), (after - mean) / std])

    def target(self, obs: Obs, after: Obs) -> Obs:
        """What the dynamics are to foretell, in their own units."""
        return (after - self.scaling.residual * obs - self.scaling.target_mean) / self.scaling.target_std

    def predict(self, obs: Obs, action: Action) -> tuple[Obs, Obs]:
        """(mean, standard deviation) of the next observation."""
        mean, log_variance = self.nets["dynamics"](self.inputs(obs, action))
        mean = self.scaling.residual * obs + self.scaling.target_mean + self.scaling.target_std * mean
        return mean, self.scaling.target_std * jnp.exp(0.5 * log_variance)

    def next(self, obs: Obs, action: Action, key: PRNGKeyArray) -> Obs:
        """A draw of the next observation; of a deterministic member, its prediction."""
        mean, std = self.predict(obs, action)
        if self.nets["dynamics"].bounds is None:
            return mean
        return mean + std * jax.random.normal(key, mean.shape, jnp.float32)

    def reward(self, obs: Obs, action: Action, after: Obs) -> Scalar:
        if "reward" not in self.nets:
            return jnp.zeros(())
        reward = self.nets["reward"](self.outcome(obs, action, after))[0]
        return self.scaling.reward_mean + self.scaling.reward_std * reward

    def continue_logit(self, obs: Obs, action: Action, after: Obs) -> Scalar:
        """Log-odds that the episode goes on: what the network says, which has seen ends as often as other transitions,
        and how rare they really are."""
        if "continuation" not in self.nets:
            return jnp.full((), jnp.inf)
        return self.nets["continuation"](self.outcome(obs, action, after))[0] + self.scaling.odds

    def going_on(self, obs: Obs, action: Action, after: Obs) -> Scalar:
        """The probability that the episode goes on, by a user's function once it is verified."""
        learned = jax.nn.sigmoid(self.continue_logit(obs, action, after))
        return learned if self.ends is None else self.ends.going_on(learned, obs, action, after)


class EnsembleWorld(eqx.Module):
    """The members' networks, stacked: each leaf of `nets` is [members, ...]."""

    nets: dict[str, Any]
    scaling: Scaling
    elites: Int32[Array, "elites"]  # the best first
    fits: Int32[Array, ""]  # how often it has been fitted
    ends: Ends | None = None  # a user's termination function, in place of the continuation once it is verified

    @classmethod
    def create(
        cls,
        spec: Spec,
        size: Network,
        key: PRNGKeyArray,
        *,
        dynamics: bool = True,
        reward: bool = True,
        continuation: bool = True,
        terminated: str = "learned",
    ) -> "EnsembleWorld":
        """Untrained; with networks only for what is asked for. An environment that cannot terminate needs none for its
        continuation. `terminated` may name a user's function, "module:function". Raises `UsageError` where that cannot
        be used."""
        (obs_dim,), inputs = spec.obs_shape, spec.obs_shape[0] + spec.action_dim

        def gaussian(key: PRNGKeyArray) -> Gaussian:
            return Gaussian(inputs, obs_dim, key, size)

        def head(key: PRNGKeyArray) -> Perceptron:
            return Perceptron(inputs + obs_dim, [size.head_width] * size.head_layers, 1, key, size.activation)

        makers: dict[str, Callable] = {"dynamics": gaussian} if dynamics else {}
        makers |= {"reward": head} if reward else {}
        makers |= {"continuation": head} if continuation and spec.terminates else {}
        keys = jax.random.split(key, (len(makers), size.members))
        return cls(
            nets={name: jax.vmap(make)(keys[i]) for i, (name, make) in enumerate(makers.items())},
            scaling=Scaling.create(obs_dim, spec.action_dim),
            elites=jnp.arange(size.elites, dtype=jnp.int32),
            fits=jnp.zeros((), jnp.int32),
            ends=Ends.of(terminated, spec),
        )

    def only(self, name: str, elites: Int32[Array, "elites"]) -> "EnsembleWorld":
        """The networks called `name` alone, of which `elites` are the best."""
        return EnsembleWorld({name: self.nets[name]}, self.scaling, elites, self.fits)

    def parts(self, form: Network) -> LearnedParts:
        """Each kind of network by itself, of the elites."""
        return {name: (form, self.only(name, self.elites)) for name in self.nets}

    @property
    def num_members(self) -> int:
        return jax.tree.leaves(self.nets)[0].shape[0]

    def members(self, numbers: Int32[Array, "n"]) -> Member:
        """The members of these numbers, stacked: every leaf is [n, ...], also of what they share."""
        nets, shared = jax.tree.map(lambda leaf: leaf[numbers], self.nets), (self.scaling, self.ends)
        return Member(nets, *jax.tree.map(lambda x: jnp.broadcast_to(x, (*numbers.shape, *x.shape)), shared))

    def transitions(
        self, obs: Float32[Array, "n obs"], action: Float32[Array, "n action"], key: PRNGKeyArray
    ) -> tuple[Float32[Array, "n obs"], Float32[Array, "n"], Float32[Array, "n"]]:
        """(next observations, rewards, probabilities to go on) of `n` independent states, `n` a multiple of the number
        of elites: each elite, in random order, moves an equal share of the rows, so that nothing is computed in vain
        and every product is one of matrices."""
        order_key, draw_key = jax.random.split(key)
        elites = self.members(jax.random.permutation(order_key, self.elites))
        rows = obs, action, jax.random.split(draw_key, obs.shape[0])

        def move(member: Member, obs: Obs, action: Action, key: PRNGKeyArray) -> tuple[Obs, Scalar, Scalar]:
            after = member.next(obs, action, key)
            return after, member.reward(obs, action, after), member.going_on(obs, action, after)

        shares = jax.tree.map(lambda x: x.reshape(len(self.elites), -1, *x.shape[1:]), rows)
        moved = jax.lax.map(lambda share: jax.vmap(partial(move, share[0]))(*share[1]), (elites, shares))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), moved)
