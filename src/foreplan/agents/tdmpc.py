"""TD-MPC2 (Hansen, Su, Wang: "TD-MPC2: Scalable, Robust World Models for Continuous Control", ICLR 2024).

 1. encode the observation, and plan in the latent world by MPPI: `act` (planners/mppi.py)
      a. the policy offers proposals                               `Imagination.prior`
      b. candidates are scored by rewards and a terminal value     `core.model.returns`
 2. store the transition; every `1 / utd` decisions, for a window of H transitions:  `learn`, `update`
      a. TD target: r + discount (1 - terminated) min of two target Q   `td_targets`
      b. roll the latent forward; match next latents, rewards, values   `world_loss`
      c. improve the policy against the Q it has                        `policy_loss`
      d. move the target Q slowly                                       `moving_average`

Differences from the authors' code, each on purpose: episodes may end anywhere (a learned continuation enters the
discount softly, windows are masked at ends, every step is stored at once); the entropy bonus counts the Jacobian of
tanh; plans that are not finite score minus infinity; MPPI's temperature is in units of the elites' spread; evaluation
takes the plan's mean; two heads are drawn before the forward pass.
"""

from dataclasses import dataclass, field
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.tdmpc_parts import Learner, Losses, Optimiser
from foreplan.core.learning import (
    descend,
    hold_out_losses,
    masked_mean,
    moving_average,
    over_batch,
    repeat_updates,
    where_first,
)
from foreplan.core.maths import TwoHot, softplus
from foreplan.core.replay import Replay, Window, n_step
from foreplan.core.types import Metrics, Spec, TimeStep
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.nets import MLP
from foreplan.nn.stats import RunningScale
from foreplan.planners.mppi import MPPI, MPPIMemory
from foreplan.planners.sampling import plan
from foreplan.worlds.latent import Imagination, LatentWorld, Network, q_values


@dataclass(frozen=True)
class TDMPC2:
    planner: MPPI = field(default_factory=MPPI)
    network: Network = field(default_factory=Network)
    two_hot: TwoHot = field(default_factory=TwoHot)
    losses: Losses = field(default_factory=Losses)
    optimiser: Optimiser = field(default_factory=Optimiser)
    batch_size: int = 256
    target_rate: float = 0.01
    n_step: int = 1  # rewards in a target of Q, before its value
    pessimistic: bool = False  # search by the minimum of the heads, not their mean
    discount: float | None = None  # None: from the episode's length
    utd: float = 1.0  # gradient updates a decision
    min_seed_steps: int = (
        1000  # decisions at random before learning; at least five episodes where their length is known
    )

    # ------------------------------------------------------------------ what is learned
    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        world_key, policy_key = jax.random.split(key)
        world = LatentWorld.create(spec, self.network, self.two_hot, world_key)
        policy = self.network.mlp(self.network.latent, 2 * spec.action_dim, policy_key)
        return Learner(
            world=world,
            policy=policy,
            target_critics=jax.tree.map(jnp.copy, world.critics),
            world_optimiser=self.world_optimiser(world).init(world),
            policy_optimiser=self.policy_optimiser().init(policy),
            q_scale=RunningScale.create(),
            discount=jnp.asarray(self.discount_for(spec.episode_length), jnp.float32),
        )

    def world_optimiser(self, world: LatentWorld) -> optax.GradientTransformation:
        slow = eqx.tree_at(
            lambda w: w.encoder, jax.tree.map(lambda _: False, world), jax.tree.map(lambda _: True, world.encoder)
        )
        return optax.chain(
            optax.clip_by_global_norm(self.optimiser.clip),
            optax.adam(self.optimiser.lr),
            optax.masked(optax.scale(self.optimiser.encoder_lr_scale), slow),
        )

    def policy_optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.optimiser.clip), optax.adam(self.optimiser.lr, eps=1e-5))

    def seed_steps(self, spec: Spec) -> int:
        return max(self.min_seed_steps, 5 * (spec.episode_length or 0))

    def discount_for(self, episode_length: int | None) -> float:
        """A discount whose horizon is a fifth of the episode, within [0.95, 0.99] (TD-MPC2, appendix B: 0.995)."""
        if self.discount is not None:
            return self.discount
        return 0.99 if episode_length is None else min(0.99, max(0.95, 1.0 - 5.0 / episode_length))

    @property
    def window(self) -> int:
        """Transitions in a row that an update looks at."""
        return self.planner.horizon + self.n_step - 1

    # ------------------------------------------------------------------ 1. act
    def memory(self, spec: Spec) -> MPPIMemory:
        fresh = self.planner.init(spec.action_dim)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (spec.num_envs, *x.shape)), fresh)

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(
        self, learner: Learner, timestep: TimeStep, memory: MPPIMemory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], MPPIMemory, Metrics]:
        """Plan in the latent world, from every environment's observation at once."""
        head_key, key = jax.random.split(key)
        model = self.imagination(learner, head_key)

        def act_one(obs: Array, first: Array, memory: MPPIMemory, key: PRNGKeyArray) -> tuple[Array, MPPIMemory, Array]:
            plan_key, act_key = jax.random.split(key)
            memory = where_first(first, self.planner.init(memory.mean.shape[-1]), memory)
            memory, invalid = plan(self.planner, model, model.world.encode(obs), memory, plan_key)
            return self.planner.act(memory, explore, act_key), memory, invalid

        keys = jax.random.split(key, timestep.first.shape[0])
        obs, first = jnp.asarray(timestep.obs), jnp.asarray(timestep.first)
        actions, memory, invalid = jax.vmap(act_one)(obs, first, memory, keys)
        return actions, memory, {"invalid_plans": jnp.sum(invalid)}

    def imagination(self, learner: Learner, key: PRNGKeyArray) -> Imagination:
        """The latent world as a model to plan in, with two critics of those that there are."""
        critics = learner.world.critics.choose(2, key)
        return Imagination(learner.world, learner.policy, critics, learner.discount, self.pessimistic)

    def look_ahead(
        self, learner: Learner, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Imagination, Float32[Array, "latent"]]:
        """For other planners: the model, and the latent of what is observed."""
        return self.imagination(learner, key), learner.world.encode(obs)

    @partial(jax.jit, static_argnames="self")
    def imagine(
        self, learner: Learner, obs: Float32[Array, "obs"], actions: Float32[Array, "time action"]
    ) -> dict[str, Float32[Array, "time"]]:
        """The rewards that the model foretells for a sequence of actions, from one observation on."""

        def step(z: Array, action: Array) -> tuple[Array, Array]:
            reward = self.two_hot.decode(learner.world.reward_logits(z, action))
            return learner.world.next(z, action), reward

        return {"reward": jax.lax.scan(step, learner.world.encode(obs), actions)[1]}

    # ------------------------------------------------------------------ 2. learn
    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        return repeat_updates(
            self.update,
            learner,
            replay,
            key,
            num_updates=num_updates,
            batch_size=self.batch_size,
            horizon=self.window,
        )

    def update(self, learner: Learner, window: Window, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """One gradient step of the world, one of the policy, on a batch of windows; then the targets follow."""
        target_key, world_key, policy_key = jax.random.split(key, 3)
        next_latents, targets = self.td_targets(learner, window, target_key)
        window = window.part(0, self.planner.horizon)
        (latents, world_metrics), world, world_optimiser = descend(
            lambda world: self.world_loss(world, window, next_latents, targets, world_key),
            learner.world,
            self.world_optimiser(learner.world),
            learner.world_optimiser,
        )
        (q_scale, policy_metrics), policy, policy_optimiser = descend(
            lambda policy: self.policy_loss(policy, world, learner.q_scale, latents, window, policy_key),
            learner.policy,
            self.policy_optimiser(),
            learner.policy_optimiser,
        )
        learner = Learner(
            world=world,
            policy=policy,
            target_critics=moving_average(learner.target_critics, world.critics, self.target_rate),
            world_optimiser=world_optimiser,
            policy_optimiser=policy_optimiser,
            q_scale=q_scale,
            discount=learner.discount,
        )
        return learner, world_metrics | policy_metrics

    def hold_out_losses(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Array, Array]:
        """The joint loss of what is held out, and of what is trained on."""

        def loss(window: Window, key: PRNGKeyArray) -> Array:
            target_key, loss_key = jax.random.split(key)
            targets = self.td_targets(learner, window, target_key)
            window = window.part(0, self.planner.horizon)
            return self.world_loss(learner.world, window, *targets, loss_key)[0]

        return hold_out_losses(loss, replay, self.window, key)

    def td_targets(self, learner: Learner, window: Window, key: PRNGKeyArray) -> tuple[Array, Array]:
        """(next latents [batch, H, latent], n-step returns [batch, H] that end in the minimum of two target Q)."""
        head_key, action_key = jax.random.split(key)
        critics, horizon = learner.target_critics.choose(2, head_key), self.planner.horizon

        def value(z: Array, key: PRNGKeyArray) -> Array:
            action, _ = SquashedGaussian.of(learner.policy(z)).sample(key)
            return jnp.min(q_values(critics, self.two_hot, z, action))

        latents = over_batch(learner.world.encode)(window.obs[:, 1:])
        parts = [n_step(window.part(t, self.n_step), learner.discount) for t in range(horizon)]
        returns, discounts, lengths = (jnp.stack(leaf, axis=1) for leaf in zip(*parts, strict=True))
        steps = jnp.arange(horizon, dtype=jnp.int32)[None, :]
        last = latents[jnp.arange(returns.shape[0])[:, None], jnp.maximum(0, steps + lengths - 1)]
        values = over_batch(value)(last, jax.random.split(action_key, returns.shape))
        return latents[:, :horizon], returns + discounts * values

    def world_loss(
        self, world: LatentWorld, window: Window, next_latents: Array, targets: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Array, Metrics]]:
        """The joint loss (TD-MPC2, equation 3), and the latents [batch, H + 1, latent] of the rollout."""
        horizon, weight = self.planner.horizon, self.losses

        def unroll(obs: Array, actions: Array) -> Array:
            latents = [world.encode(obs)]
            for t in range(horizon):
                latents.append(world.next(latents[-1], actions[t]))
            return jnp.stack(latents)

        def step_losses(
            z: Array,
            action: Array,
            reward: Array,
            target: Array,
            terminated: Array,
            z_next: Array,
            z_true: Array,
            key: PRNGKeyArray,
        ) -> Metrics:
            q_logits = world.q_logits(z, action, key if self.network.dropout > 0 else None)
            losses = {
                "consistency": jnp.mean((z_next - z_true) ** 2),
                "reward": self.two_hot.loss(world.reward_logits(z, action), reward),
                "value": jnp.mean(jax.vmap(self.two_hot.loss, (0, None))(q_logits, target)),
            }
            if world.continuation is not None:
                logit = world.continue_logit(z_next)
                losses["continuation"] = softplus(jnp.where(terminated, logit, -logit))
            return losses

        latents = jax.vmap(unroll)(window.obs[:, 0], window.action)
        losses = over_batch(step_losses)(
            latents[:, :-1],
            window.action,
            window.reward,
            targets,
            window.terminated,
            latents[:, 1:],
            next_latents,
            jax.random.split(key, window.reward.shape),
        )
        real = window.mask.astype(jnp.float32) * self.losses.rho ** jnp.arange(horizon, dtype=jnp.float32)[None, :]
        losses = {name: jnp.mean(loss * real) for name, loss in losses.items()}
        total = sum(getattr(weight, name) * loss for name, loss in losses.items())
        metrics = {f"{name}_loss": loss for name, loss in losses.items()}
        return total, (jax.lax.stop_gradient(latents), metrics)

    def policy_loss(
        self, policy: MLP, world: LatentWorld, q_scale: RunningScale, latents: Array, window: Window, key: PRNGKeyArray
    ) -> tuple[Array, tuple[RunningScale, Metrics]]:
        """-(Q / scale + coefficient * entropy), over the latents of the rollout (TD-MPC2, equation 4)."""
        head_key, action_key = jax.random.split(key)
        critics = world.critics.choose(2, head_key)

        def evaluate(z: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            action, log_prob = SquashedGaussian.of(policy(z)).sample(key)
            return jnp.mean(q_values(critics, self.two_hot, z, action)), -log_prob

        q, entropy = over_batch(evaluate)(latents, jax.random.split(action_key, latents.shape[:2]))
        q_scale = q_scale.update(jax.lax.stop_gradient(q[:, 0]))
        reached = jnp.concatenate([jnp.ones_like(window.mask[:, :1]), window.mask], axis=1)
        steps = jnp.arange(reached.shape[1], dtype=jnp.float32)[None, :]
        weight = reached.astype(jnp.float32) * self.losses.rho**steps
        bonus = self.losses.entropy * window.action.shape[-1] * entropy
        loss = -jnp.mean(weight * (q / q_scale.value + bonus))
        if window.demo is not None and self.losses.cloning > 0:
            modes = over_batch(lambda z: SquashedGaussian.of(policy(z)).mode())(latents[:, :-1])
            apart = jnp.mean((modes - window.action) ** 2, axis=-1)
            loss = loss + self.losses.cloning * masked_mean(apart, window.mask & window.demo[:, None])
        metrics = {
            "policy_loss": loss,
            "policy_entropy": jnp.mean(entropy),
            "q": jnp.mean(q[:, 0]),
            "q_scale": q_scale.value,
        }
        return loss, (q_scale, metrics)
