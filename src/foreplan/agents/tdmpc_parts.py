"""The parts of TD-MPC2's configuration, and what it learns; what they do stands in `agents/tdmpc.py`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.learning import masked_mean, over_batch
from foreplan.core.maths import TwoHot
from foreplan.core.replay import Drawn, Replay, Window, beginnings, rewritten
from foreplan.core.types import Agent, Spec, TimeStep
from foreplan.nn.nets import MLP, Ensemble
from foreplan.nn.stats import RunningScale, Statistics
from foreplan.worlds.latent import LatentWorld, Sees


@dataclass(frozen=True)
class Losses:
    """The weights of the joint loss (TD-MPC2, equation 3) and of the policy's."""

    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    continuation: float = 1.0
    rho: float = 0.5  # weight of each further step of the rollout
    policy: float = 1.0  # of its Q
    entropy: float = 1e-4
    cloning: float = 1.0  # of the policy's squared distance to demonstrated actions, where there are any
    distil: float = 0.0  # of the same to what the planner chose there (BMPC, Wang et al. 2025)

    def imitation(
        self, mode: Callable[[Array], Array], latents: Float32[Array, "batch horizon latent"], window: Window
    ) -> Float32[Array, ""]:
        """How far the policy's modes are from what was demonstrated, and from what the planner chose."""
        lessons = []
        if window.demo is not None and self.cloning > 0:
            lessons.append((self.cloning, window.action, window.demo[:, None]))
        if self.distil > 0:
            lessons.append((self.distil, window.extras["plan"], window.extras["planned"]))
        loss = jnp.zeros(())
        for weight, actions, known in lessons:
            apart = jnp.mean((over_batch(mode)(latents) - actions) ** 2, axis=-1)
            loss = loss + weight * masked_mean(apart, window.mask & known)
        return loss


@dataclass(frozen=True)
class Critic:
    """What the value learns from, what it sees, and how the search asks it."""

    target: Literal["td", "lambda", "return"] = "td"
    n_step: int = 1  # rewards in a target at most, before its value
    td_lambda: float = 0.95  # of lambda targets
    longest: int = 500  # rewards in a return at most
    sees: Sees = "action"  # Q(z, a); Q(z, a, predicted reward); R(z, a) + discount V(next latent)
    improve: Literal["mean", "min"] = "mean"  # of two heads, which the policy is to raise
    # the mean of two heads at random, of all heads, the least of all; cautious: of two to explore, else the least
    search: Literal["two", "mean", "min", "cautious"] = "two"
    depths: Literal["last", "every", "growing"] = "last"  # at which a plan's return is cut: the mean over every depth
    growth: int = 25_000  # updates until a growing horizon is whole (TD-MPC 2022)
    # values in `bins` even bins of returns that are divided to stay within this (Lee et al. 2025); None: as rewards are
    scale_returns: float | None = None
    bins: int = 51

    def __post_init__(self) -> None:
        for name in ("n_step", "longest", "growth"):
            if getattr(self, name) < 1:
                raise UsageError(f"critic.{name} is {getattr(self, name)}; accepted: whole numbers from 1")
        if self.bins < 2 or not (self.scale_returns is None or self.scale_returns > 0):
            raise UsageError(
                f"critic.scale-returns is {self.scale_returns} with {self.bins} bins; accepted: numbers above 0, and"
                " bins from 2 up"
            )
        if not 0 <= self.td_lambda <= 1:
            raise UsageError(f"critic.td_lambda is {self.td_lambda}; accepted: 0 to 1")

    @property
    def rewards(self) -> int:
        """In a target, at most."""
        return self.longest if self.target == "return" else self.n_step

    @property
    def values(self) -> TwoHot | None:
        """The bins of scaled returns, where they are scaled."""
        return None if self.scale_returns is None else TwoHot(self.bins, self.scale_returns, linear=True)

    def weights(self, horizon: int, updates: Int32[Array, ""]) -> Float32[Array, "horizon"] | None:
        """How much each depth of a plan counts: see `Model.depths`."""
        if self.depths == "last":
            return None
        if self.depths == "every":
            return jnp.full((horizon,), 1.0 / horizon)
        grown = jnp.minimum(1.0, updates.astype(jnp.float32) / self.growth)
        return jax.nn.one_hot((grown * (horizon - 1)).astype(jnp.int32), horizon, dtype=jnp.float32)


@dataclass(frozen=True)
class Optimiser:
    lr: float = 3e-4
    encoder_lr_scale: float = 0.3
    clip: float = 20.0  # of the gradient's global norm

    def of_world(self, world: LatentWorld) -> optax.GradientTransformation:
        slow = eqx.tree_at(
            lambda w: w.encoder, jax.tree.map(lambda _: False, world), jax.tree.map(lambda _: True, world.encoder)
        )
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adam(self.lr),
            optax.masked(optax.scale(self.encoder_lr_scale), slow),
        )

    def of_policy(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(self.lr, eps=1e-5))


class Learner(eqx.Module):
    world: LatentWorld
    policy: MLP
    target_critics: Ensemble
    target_encoder: MLP | None  # None: what latents are to be is said by the encoder itself
    world_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    q_scale: RunningScale
    discount: Float32[Array, ""]
    updates: Int32[Array, ""]
    statistics: Statistics | None  # of all returns; None: they are not scaled
    drawn: Drawn | None  # from where in the buffer the last batch came; None: drawn uniformly
    average: tuple[LatentWorld, MLP] | None  # of world and policy over the last updates; None: none is kept

    @classmethod
    def create(
        cls,
        world: LatentWorld,
        policy: MLP,
        optimiser: Optimiser,
        discount: Float32[Array, ""],
        target_encoder: bool,
        drawn: Drawn | None,
        statistics: Statistics | None,
        average: bool,
    ) -> "Learner":
        """Untrained; targets and average are copies, so that what they follow can be donated."""
        return cls(
            world=world,
            policy=policy,
            target_critics=jax.tree.map(jnp.copy, world.critics),
            target_encoder=jax.tree.map(jnp.copy, world.encoder) if target_encoder else None,
            world_optimiser=optimiser.of_world(world).init(world),
            policy_optimiser=optimiser.of_policy().init(policy),
            q_scale=RunningScale.create(),
            discount=discount,
            updates=jnp.zeros((), jnp.int32),
            statistics=statistics,
            drawn=drawn,
            average=jax.tree.map(jnp.copy, (world, policy)) if average else None,
        )

    def observed(self, replay: Replay, limit: float | None) -> "Learner":
        """With the scale of all returns so far, where they are scaled to stay within `limit`."""
        if self.statistics is None or limit is None:
            return self
        statistics = self.statistics.observed(replay, self.discount)
        return replace(self, statistics=statistics, world=replace(self.world, scale=statistics.returns.value(limit)))

    def steady(self) -> "Learner":
        """With the averages in the place of what they average, to act by where nothing is explored."""
        return self if self.average is None else replace(self, world=self.average[0], policy=self.average[1])


def replanned(agent: Agent, learner: Learner, replay: Replay, number: int, key: PRNGKeyArray) -> Replay:
    """The buffer with what the planner chooses today where `number` stored transitions begin (the lazy
    reanalysis of BMPC, Wang et al. 2025)."""
    place_key, plan_key = jax.random.split(key)
    begin, env = beginnings(replay, number, place_key)
    row, none = (replay.head - replay.size + begin) % replay.capacity, jnp.zeros((number,))
    obs, ended = jnp.asarray(replay.steps.obs)[row, env], jnp.zeros((number,), jnp.bool_)
    timestep = TimeStep(obs=obs, reward=none, terminated=ended, truncated=ended, first=~ended)
    memory = agent.memory(Spec(obs.shape[1:], replay.steps.action.shape[-1], num_envs=number))
    _, _, notes = agent.act(learner, timestep, memory, plan_key, True)
    return rewritten(replay, row, env, {name: notes[name] for name in ("plan", "planned")})
