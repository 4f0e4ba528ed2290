"""TD-MPC2 (Hansen, Su, Wang: "TD-MPC2: Scalable, Robust World Models for Continuous Control", ICLR 2024).

 1. encode the observation, and plan in the latent world by MPPI: `act` (planners/mppi.py)
      a. the policy offers proposals                               `Imagination.prior`
      b. candidates are scored by rewards and a terminal value     `core.model.returns`
 2. store the transition; every `1 / utd` decisions, for a window of H transitions:  `learn`, `update`
      a. TD target: r + discount (1 - terminated) min of two target Q   `td_targets` (core/targets.py)
      b. roll the latent forward; match next latents, rewards, values   `world_loss`
      c. improve the policy against the Q it has                        `policy_loss`
      d. move the target Q slowly                                       `moving_average`
 3. what the buffer keeps besides may change by it: priorities, and what is planned today    `relabel`

Differences from the authors' code, each on purpose: episodes may end anywhere (a learned continuation enters the
discount softly, windows are masked at ends, every step is stored at once); the entropy bonus counts the Jacobian of
tanh; plans that are not finite score minus infinity; MPPI's temperature is in units of the elites' spread; evaluation
takes the plan's mean; two heads are drawn before the forward pass.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.tdmpc_parts import Critic, Learner, Losses, Optimiser, replanned
from foreplan.core.errors import UsageError
from foreplan.core.learning import descend, hold_out_losses, moving_average, over_batch, repeat_updates, where_first
from foreplan.core.maths import TwoHot, softplus
from foreplan.core.replay import Drawn, Priority, Replay, Window, rewritten
from foreplan.core.targets import multi_step
from foreplan.core.types import Metrics, Spec, TimeStep
from foreplan.nn.nets import MLP
from foreplan.nn.stats import RunningScale, Statistics
from foreplan.planners.mppi import MPPI, MPPIMemory
from foreplan.planners.sampling import plan
from foreplan.worlds.latent import Imagination, LatentWorld, Network


@dataclass(frozen=True)
class TDMPC2:
    planner: MPPI = field(default_factory=MPPI)
    network: Network = field(default_factory=Network)
    two_hot: TwoHot = field(default_factory=TwoHot)
    losses: Losses = field(default_factory=Losses)
    critic: Critic = field(default_factory=Critic)
    optimiser: Optimiser = field(default_factory=Optimiser)
    priority: Priority = field(default_factory=Priority)
    batch_size: int = 256
    target_rate: float = 0.01
    averaging: float = 0.0  # rate at which the weights that evaluation acts by follow those that learn; 0: the same
    target_encoder: bool = False  # latents are to become what a slowly moving encoder says (TD-MPC 2022)
    reanalyse: int = 0  # stored states that are planned in anew after every call of `learn` (BMPC)
    discount: float | None = None  # None: from the episode's length
    utd: float = 1.0  # gradient updates a decision
    min_seed_steps: int = 1000  # decisions at random before learning; or, if that is more,
    seed_episodes: int = 5  # as many as these episodes have

    def __post_init__(self) -> None:
        if not 0.0 <= self.averaging <= 1.0:
            raise UsageError(f"averaging is {self.averaging}; accepted: 0 to 1")
        if self.reanalyse < 0 or (self.reanalyse and not self.losses.distil > 0):
            raise UsageError(
                f"reanalyse is {self.reanalyse} with losses.distil {self.losses.distil}; accepted: 0, or more where"
                " the policy is distilled from what is planned"
            )

    # ------------------------------------------------------------------ what is learned
    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        world_key, policy_key = jax.random.split(key)
        world = LatentWorld.create(spec, self.network, self.two_hot, world_key, self.critic.sees, self.critic.values)
        policy = self.network.policy(spec.action_dim, policy_key)
        discount = jnp.asarray(self.discount_for(spec.episode_length), jnp.float32)
        drawn = Drawn.fill(self.batch_size) if self.priority.exponent > 0 else None
        statistics = Statistics.create(spec.obs_shape[0], spec.num_envs) if self.critic.values else None
        return Learner.create(
            world, policy, self.optimiser, discount, self.target_encoder, drawn, statistics, average=self.averaging > 0
        )

    def seed_steps(self, spec: Spec) -> int:
        return spec.seed_steps(self.min_seed_steps, self.seed_episodes)

    def discount_for(self, episode_length: int | None) -> float:
        """A discount whose horizon is a fifth of the episode, within [0.95, 0.99] (TD-MPC2, appendix B: 0.995)."""
        if self.discount is not None:
            return self.discount
        return 0.99 if episode_length is None else min(0.99, max(0.95, 1.0 - 5.0 / episode_length))

    @property
    def window(self) -> int:
        """Transitions in a row that an update looks at."""
        return self.planner.horizon + self.critic.rewards - 1

    def extras(self, spec: Spec) -> dict[str, Array]:
        """What the buffer keeps of a decision besides: how surprising it was, and what the planner chose."""
        kept: dict[str, Array] = {}
        if self.priority.exponent > 0:
            kept["priority"] = jnp.zeros((spec.num_envs,))
        if self.losses.distil > 0:
            kept["plan"] = jnp.zeros((spec.num_envs, spec.action_dim))
            kept["planned"] = jnp.zeros((spec.num_envs,), jnp.bool_)
        return kept

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
        model = self.imagination(learner if explore else learner.steady(), head_key, explore)

        def act_one(obs: Array, first: Array, memory: MPPIMemory, key: PRNGKeyArray) -> tuple[Array, MPPIMemory, Array]:
            plan_key, act_key = jax.random.split(key)
            memory = where_first(first, self.planner.init(memory.mean.shape[-1]), memory)
            memory, invalid = plan(self.planner, model, model.world.encode(obs), memory, plan_key)
            return self.planner.act(memory, explore, act_key), memory, invalid

        keys = jax.random.split(key, timestep.first.shape[0])
        obs, first = jnp.asarray(timestep.obs), jnp.asarray(timestep.first)
        actions, memory, invalid = jax.vmap(act_one)(obs, first, memory, keys)
        notes = {"plan": memory.mean[:, 0], "planned": jnp.ones_like(first), "priority": jnp.zeros(first.shape)}
        kept = {name: notes[name] for name in self.extras(Spec(obs.shape[1:], actions.shape[1], len(first)))}
        return actions, memory, kept | {"invalid_plans": jnp.sum(invalid)}

    def imagination(self, learner: Learner, key: PRNGKeyArray, explore: bool = False) -> Imagination:
        """The latent world as a model to plan in, with two critics of those that there are, or all of them."""
        critics, search = learner.world.critics, self.critic.search
        two = search == "two" or (search == "cautious" and explore)
        return Imagination(
            learner.world,
            learner.policy,
            critics.choose(2, key) if two else critics,
            learner.discount,
            pessimistic=not two and search != "mean",
            weights=self.critic.weights(self.planner.horizon, learner.updates),
        )

    def look_ahead(
        self, learner: Learner, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Imagination, Float32[Array, "latent"]]:
        """For other planners: the model, and the latent of what is observed."""
        learner = learner.steady()
        return self.imagination(learner, key), learner.world.encode(obs)

    # ------------------------------------------------------------------ 2. learn
    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        return repeat_updates(
            self.update,
            learner.observed(replay, self.critic.scale_returns),
            replay,
            key,
            num_updates=num_updates,
            batch_size=self.batch_size,
            horizon=self.window,
            priority=self.priority,
        )

    def update(self, learner: Learner, window: Window, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """One gradient step of the world, one of the policy, on a batch of windows; then the targets follow."""
        target_key, world_key, policy_key = jax.random.split(key, 3)
        next_latents, targets = self.td_targets(learner, window, target_key)
        window = window.part(0, self.planner.horizon)
        (latents, surprise, world_metrics), world, world_optimiser = descend(
            lambda world: self.world_loss(world, window, next_latents, targets, world_key),
            learner.world,
            self.optimiser.of_world(learner.world),
            learner.world_optimiser,
        )
        (q_scale, policy_metrics), policy, policy_optimiser = descend(
            lambda policy: self.policy_loss(policy, world, learner, latents, window, policy_key),
            learner.policy,
            self.optimiser.of_policy(),
            learner.policy_optimiser,
        )
        learner = Learner(
            world=world,
            policy=policy,
            target_critics=moving_average(learner.target_critics, world.critics, self.target_rate),
            target_encoder=None
            if learner.target_encoder is None
            else moving_average(learner.target_encoder, world.encoder, self.target_rate),
            world_optimiser=world_optimiser,
            policy_optimiser=policy_optimiser,
            q_scale=q_scale,
            discount=learner.discount,
            updates=learner.updates + 1,
            statistics=learner.statistics,
            drawn=window.drawn and replace(window.drawn, priority=surprise),
            average=learner.average and moving_average(learner.average, (world, policy), self.averaging),
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
        """(next latents [batch, H, latent], targets [batch, H] of the critics). A value is the least of two Q."""
        head_key, action_key = jax.random.split(key)
        world, horizon, critic = learner.world, self.planner.horizon, self.critic
        heads = learner.target_critics.choose(2, head_key)

        def value(obs: Array, key: PRNGKeyArray) -> Array:
            z = world.encode(obs)
            action, _ = world.chosen(learner.policy, z).sample(key)
            return jnp.min(world.q_values(heads, z, action, learner.discount))

        weight = critic.td_lambda if critic.target == "lambda" else 1.0
        targets = multi_step(window, horizon, value, learner.discount, action_key, weight)
        if critic.sees == "next":  # what remains after the first reward; 0 after a termination
            targets = (targets - window.reward[:, :horizon]) / learner.discount
        encoder = learner.target_encoder or world.encoder
        latents = over_batch(lambda obs: world.latent(encoder(obs)))(window.obs[:, 1 : horizon + 1])
        return latents, targets

    def world_loss(
        self, world: LatentWorld, window: Window, next_latents: Array, targets: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Array, Array, Metrics]]:
        """The joint loss (TD-MPC2, equation 3), the latents [batch, H + 1, latent] of the rollout, and how far the
        critics are from their targets [batch]."""
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
            q_logits = world.q_logits(z, action, key if self.network.dropout > 0 else None, z_next)
            losses = {
                "consistency": jnp.mean((z_next - z_true) ** 2),
                "reward": self.two_hot.loss(world.reward_logits(z, action), reward),
                "value": jnp.mean(jax.vmap(world.value_loss, (0, None))(q_logits, target)),
            }
            if world.continuation is not None:
                logit = world.continue_logit(z_next)
                losses["continuation"] = softplus(jnp.where(terminated, logit, -logit))
            if window.drawn is not None:
                losses["surprise"] = jnp.mean(jnp.abs(jax.vmap(world.value)(q_logits) - target))
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
        surprise = jax.lax.stop_gradient(jnp.sum(losses.pop("surprise", jnp.zeros(real.shape)) * real, axis=1)) + 1e-6
        if window.drawn is not None:
            real = real * window.drawn.weight[:, None]
        losses = {name: jnp.mean(loss * real) for name, loss in losses.items()}
        total = sum(getattr(weight, name) * loss for name, loss in losses.items())
        metrics = {f"{name}_loss": loss for name, loss in losses.items()}
        return total, (jax.lax.stop_gradient(latents), surprise, metrics)

    def policy_loss(
        self, policy: MLP, world: LatentWorld, learner: Learner, latents: Array, window: Window, key: PRNGKeyArray
    ) -> tuple[Array, tuple[RunningScale, Metrics]]:
        """-(Q / scale + coefficient * entropy), over the latents of the rollout (TD-MPC2, equation 4)."""
        head_key, action_key = jax.random.split(key)
        critics, least = world.critics.choose(2, head_key), self.critic.improve == "min"

        def evaluate(z: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            action, log_prob = world.chosen(policy, z).sample(key)
            q = world.q_values(critics, z, action, learner.discount)
            return jnp.min(q) if least else jnp.mean(q), -log_prob

        q, entropy = over_batch(evaluate)(latents, jax.random.split(action_key, latents.shape[:2]))
        q_scale = learner.q_scale.update(jax.lax.stop_gradient(q[:, 0]))
        reached = jnp.concatenate([jnp.ones_like(window.mask[:, :1]), window.mask], axis=1)
        steps = jnp.arange(reached.shape[1], dtype=jnp.float32)[None, :]
        weight = reached.astype(jnp.float32) * self.losses.rho**steps
        bonus = self.losses.entropy * window.action.shape[-1] * entropy
        loss = -jnp.mean(weight * (self.losses.policy * q / q_scale.value + bonus))
        loss = loss + self.losses.imitation(lambda z: world.chosen(policy, z).mode(), latents[:, :-1], window)
        metrics = {
            "policy_loss": loss,
            "policy_entropy": jnp.mean(entropy),
            "q": jnp.mean(q[:, 0]),
            "q_scale": q_scale.value,
        }
        return loss, (q_scale, metrics)

    # ------------------------------------------------------------------ 3. what learning changes in the buffer
    @partial(jax.jit, static_argnames="self", donate_argnames="replay")
    def relabel(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> Replay:
        """New priorities where the last batch was drawn, and new plans for a few stored observations."""
        if learner.drawn is not None:
            drawn = learner.drawn
            replay = rewritten(replay, drawn.row, drawn.env, {"priority": drawn.priority})
        return replanned(self, learner, replay, self.reanalyse, key) if self.reanalyse else replay
