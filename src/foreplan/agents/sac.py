"""Soft actor-critic (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", algorithm 1), and the parts
that let it make many updates of few samples.

 1. act by the policy, a squashed Gaussian; store the transition           `act`
 2. every 1 / utd decisions, on a batch of windows:                        `learn`, `update`
      a. critics towards  r + discount (min Q'(s', a') - temperature log pi(a' | s'))   `critic_loss`, `td_target`
      b. the policy towards actions of high Q and high entropy                          `policy_loss`
      c. the temperature so that the entropy meets its target                           `temperature_loss`
      d. the target critics slowly after the critics                                    `moving_average`

The parts, each a field, which the presets combine (docs/sac.md): more critics, of which a random few make the target
(REDQ, Chen et al. 2021); dropout and LayerNorm (DroQ, Hiraoka et al. 2022); BatchRenorm without target critics (CrossQ,
Bhatt et al. 2024), with weights of unit length (Palenicek et al. 2025); hyperspherical residual networks, categorical
values, scaled returns and normalised observations (SimbaV2, Lee et al. 2025); n-step targets; replay that fades with
age; resets (Nikishin et al. 2022). Actions live in [-1, 1], and so does the entropy.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.sac_parts import Batch, Critic, Data, Entropy, Learner, Optimiser
from foreplan.core.errors import UsageError
from foreplan.core.learning import descend, hold_out_losses, masked_mean, moving_average, repeat_updates
from foreplan.core.replay import Replay, Window
from foreplan.core.targets import n_step
from foreplan.core.types import LearnedParts, Metrics, Spec, TimeStep
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.network import Architecture, Heads, Network
from foreplan.nn.stats import Statistics


@dataclass(frozen=True)
class SAC:
    policy: Architecture = field(default_factory=Architecture)
    critic: Critic = field(default_factory=Critic)
    entropy: Entropy = field(default_factory=Entropy)
    optimiser: Optimiser = field(default_factory=Optimiser)
    data: Data = field(default_factory=Data)
    log_std: tuple[float, float] = (-5.0, 2.0)  # bounds of the policy's
    discount: float = 0.99
    utd: float = 1.0  # gradient updates a decision
    policy_every: int = 1  # updates of the critics to one of policy and temperature
    cloning: float = 0.4  # of the policy's squared distance to demonstrated actions, in units of mean |Q|
    averaging: float = 0.0  # rate at which the policy that evaluation acts by follows the one that learns; 0: the same
    reset_every: int = 0  # updates after which networks and optimisers begin anew; 0: never
    min_seed_steps: int = 1000  # decisions at random before learning; or, if that is more,
    seed_episodes: int = 0  # as many as these episodes have

    def __post_init__(self) -> None:
        if not 0.0 <= self.averaging <= 1.0:
            raise UsageError(f"averaging is {self.averaging}; accepted: 0 to 1")

    # ------------------------------------------------------------------ what is learned
    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        (obs_dim,), optimisers = spec.obs_shape, self.optimiser.of_parts()
        policy_key, critic_key = jax.random.split(key)
        outputs = self.critic.two_hot.bins if self.critic.two_hot else 1
        policy = self.policy.make(obs_dim, 2 * spec.action_dim, policy_key)
        critics = Heads(
            lambda key: self.critic.network.make(obs_dim + spec.action_dim, outputs, key), self.critic.heads, critic_key
        )
        log_temperature = jnp.log(jnp.float32(self.entropy.initial))
        trained = {"policy": policy, "critics": critics, "temperature": log_temperature}
        return Learner(
            policy=policy,
            critics=critics,
            targets=jax.tree.map(jnp.copy, critics) if self.critic.target_rate else None,
            log_temperature=log_temperature,
            optimisers={name: optimisers[name].init(part) for name, part in trained.items()},
            statistics=Statistics.create(obs_dim, spec.num_envs),
            updates=jnp.zeros((), jnp.int32),
            policy_metrics={name: jnp.zeros(()) for name in ("policy_loss", "entropy", "temperature_loss")},
            average=jax.tree.map(jnp.copy, policy) if self.averaging else None,
            terminates=spec.terminates,
        )

    def seed_steps(self, spec: Spec) -> int:
        return spec.seed_steps(self.min_seed_steps, self.seed_episodes)

    def parts(self, learner: Learner) -> LearnedParts:
        from foreplan.agents.actor_critic import Actor, CriticValue  # which are made of this

        # without what only learning needs
        learned = replace(learner.steady(), targets=None, optimisers={}, policy_metrics={}, average=None)
        value = CriticValue(learner=learned, discount=jnp.float32(self.discount), sac=self)
        return {"policy": (self, Actor(learned, self)), "value": (self, value)}

    # ------------------------------------------------------------------ 1. act
    def memory(self, spec: Spec) -> tuple[()]:
        return ()

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(
        self, learner: Learner, timestep: TimeStep, memory: tuple[()], key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], tuple[()], Metrics]:
        """A sample of the policy; its mode without exploration."""
        learner = learner if explore else learner.steady()
        outputs = jax.vmap(learner.policy)(self.seen_as(learner, jnp.asarray(timestep.obs)))
        if explore:
            return self.sample(outputs, key)[0], memory, {}
        return self.modes(outputs), memory, {}

    def modes(self, outputs: Float32[Array, "batch twice_action"]) -> Float32[Array, "batch action"]:
        return jax.vmap(lambda x: SquashedGaussian.of(x, *self.log_std).mode())(outputs)

    def sample(
        self, outputs: Float32[Array, "batch twice_action"], key: PRNGKeyArray
    ) -> tuple[Float32[Array, "batch action"], Float32[Array, "batch"]]:
        """(actions, their log-probabilities) of the distributions that a policy's outputs stand for."""
        keys = jax.random.split(key, outputs.shape[0])
        return jax.vmap(lambda x, key: SquashedGaussian.of(x, *self.log_std).sample(key))(outputs, keys)

    def seen_as(self, learner: Learner, obs: Float32[Array, "*lead obs"]) -> Float32[Array, "*lead obs"]:
        return learner.statistics.obs.normalise(obs) if self.data.normalise_obs else obs

    # ------------------------------------------------------------------ 2. learn
    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        learner = self.observe(self.reset(learner, num_updates, key), replay)
        return repeat_updates(
            self.update,
            learner,
            replay,
            key,
            num_updates=num_updates,
            batch_size=self.data.batch_size,
            horizon=self.data.n_step,
            fade=self.data.fade,
        )

    def observe(self, learner: Learner, replay: Replay) -> Learner:
        """With running statistics of all that is new in the buffer, where they are wanted."""
        wanted = self.data.normalise_obs or self.data.scale_returns is not None
        return replace(learner, statistics=learner.statistics.observed(replay, self.discount)) if wanted else learner

    def update(self, learner: Learner, window: Window, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """One gradient step of the critics, then one of policy and temperature where they are due."""
        batch = self.batch(learner, window)
        critic_key, policy_key = jax.random.split(key)
        learner, metrics = self.improve_critics(learner, batch, critic_key)
        if self.policy_every == 1:
            learner = self.improve_policy(learner, batch, policy_key)
        else:
            learner = jax.lax.cond(
                learner.updates % self.policy_every == 0,
                lambda: self.improve_policy(learner, batch, policy_key),
                lambda: learner,
            )
        learner = replace(learner, updates=learner.updates + 1)
        return learner, metrics | learner.policy_metrics | {"temperature": learner.temperature}

    def batch(self, learner: Learner, window: Window) -> Batch:
        """Windows as n-step transitions, scaled as the networks want them."""
        limit = self.data.scale_returns
        returns, discount, row = n_step(window, self.discount)
        return Batch(
            obs=self.seen_as(learner, window.obs[:, 0]),
            action=window.action[:, 0],
            returns=returns if limit is None else returns / learner.statistics.returns.value(limit),
            discount=discount,
            next_obs=self.seen_as(learner, window.obs[jnp.arange(row.shape[0]), row]),
            demo=window.demo,
        )

    def reset(self, learner: Learner, num_updates: int, key: PRNGKeyArray) -> Learner:
        """With new networks and optimisers, if the last `num_updates` updates passed a multiple of `reset_every`."""
        if self.reset_every == 0:
            return learner
        seen, action = learner.statistics, jax.tree.leaves(learner.policy)[-1].shape[-1] // 2
        spec = Spec(seen.obs.mean.shape, action, seen.returns.running.shape[0], terminates=learner.terminates)

        def fresh() -> Learner:
            begun = self.init(spec, jax.random.fold_in(key, 1))
            return replace(begun, statistics=learner.statistics, updates=learner.updates)

        before = jnp.maximum(0, learner.updates - num_updates)
        return jax.lax.cond(learner.updates // self.reset_every > before // self.reset_every, fresh, lambda: learner)

    # ------------------------------------------------------------------ 2a and d. critics
    def improve_critics(self, learner: Learner, batch: Batch, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        action_key, loss_key = jax.random.split(key)
        now, then, bonus = self.compared(learner, batch, action_key)
        metrics, critics, state = descend(
            lambda critics: self.critic_loss(critics, learner, batch, now, then, bonus, loss_key),
            learner.critics.observed(now if learner.targets else jnp.concatenate([now, then])),
            self.optimiser.of_parts()["critics"],
            learner.optimisers["critics"],
        )
        critics = critics.constrained()
        targets = learner.targets and moving_average(learner.targets, critics, self.critic.target_rate)
        optimisers = learner.optimisers | {"critics": state}
        return replace(learner, critics=critics, targets=targets, optimisers=optimisers), metrics

    def compared(self, learner: Learner, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """What the critics look at, now and an action of the policy later, and the bonus for that action's entropy."""
        next_action, log_prob = self.sample(jax.vmap(learner.policy)(batch.next_obs), key)
        now = jnp.concatenate([batch.obs, batch.action], axis=1)
        then = jnp.concatenate([batch.next_obs, next_action], axis=1)
        return now, then, -learner.temperature * log_prob

    def critic_loss(
        self, critics: Heads, learner: Learner, batch: Batch, now: Array, then: Array, bonus: Array, key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        """The distance of every head to the target, summed over heads (Haarnoja et al. 2018, equation 5)."""
        head_key, now_key, then_key = jax.random.split(key, 3)
        if learner.targets is None:  # both through one batch, whose statistics they then share (CrossQ)
            outputs, next_outputs = jnp.split(critics.batch(jnp.concatenate([now, then]), now_key), 2, axis=1)
        else:
            outputs = critics.batch(now, now_key)
            next_outputs = learner.targets.choose(self.critic.subset, head_key).batch(then, then_key)
        value = self.lowest(self.values(next_outputs), learner.terminates) + bonus
        target = jax.lax.stop_gradient(batch.returns + batch.discount * value)
        if self.critic.two_hot is None:
            errors = (outputs[..., 0] - target[None]) ** 2
        else:
            errors = jax.vmap(jax.vmap(self.critic.two_hot.loss), (0, None))(outputs, target)
        loss = jnp.sum(jnp.mean(errors, axis=1))
        return loss, {"critic_loss": loss, "q": jnp.mean(self.values(outputs)), "target": jnp.mean(target)}

    def hold_out_losses(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Array, Array]:
        """The critics' loss on what is held out, and on what is trained on."""

        def loss(window: Window, key: PRNGKeyArray) -> Array:
            action_key, loss_key = jax.random.split(key)
            batch = self.batch(learner, window)
            compared = self.compared(learner, batch, action_key)
            return self.critic_loss(learner.critics, learner, batch, *compared, loss_key)[0]

        return hold_out_losses(loss, replay, self.data.n_step, key)

    def value(self, learner: Learner, obs: Float32[Array, "n obs"]) -> Float32[Array, "n"]:
        """Of the policy's mode, in the units of scaled returns where they are scaled."""
        return self.lowest(self.head_values(learner, obs), learner.terminates)

    def head_values(self, learner: Learner, obs: Float32[Array, "n obs"]) -> Float32[Array, "heads n"]:
        seen = self.seen_as(learner, obs)
        modes = self.modes(jax.vmap(learner.policy)(seen))
        return self.values(learner.critics.evaluate(jnp.concatenate([seen, modes], axis=1)))

    def values(self, outputs: Float32[Array, "heads batch out"]) -> Float32[Array, "heads batch"]:
        decode = self.critic.two_hot.decode if self.critic.two_hot else lambda x: x[0]
        return jax.vmap(jax.vmap(decode))(outputs)

    def lowest(self, values: Float32[Array, "heads batch"], terminates: bool) -> Float32[Array, "batch"]:
        """The least of the heads; their mean where pessimism is not wanted."""
        pessimistic = self.critic.lowest == "always" or (self.critic.lowest == "episodic" and terminates)
        return jnp.min(values, axis=0) if pessimistic else jnp.mean(values, axis=0)

    # ------------------------------------------------------------------ 2b and c. policy and temperature
    def improve_policy(self, learner: Learner, batch: Batch, key: PRNGKeyArray) -> Learner:
        policy_key, temperature_key = jax.random.split(key)
        optimisers, state = self.optimiser.of_parts(), dict(learner.optimisers)
        metrics, policy, state["policy"] = descend(
            lambda policy: self.policy_loss(policy, learner, batch, policy_key),
            learner.policy.observed(batch.obs),
            optimisers["policy"],
            state["policy"],
        )
        policy = policy.constrained()
        _, log_prob = self.sample(jax.vmap(policy)(batch.obs), temperature_key)
        loss, log_temperature, state["temperature"] = descend(
            lambda log_temperature: self.temperature_loss(log_temperature, log_prob, batch.action.shape[1]),
            learner.log_temperature,
            optimisers["temperature"],
            state["temperature"],
        )
        metrics = metrics | {"temperature_loss": loss}
        return replace(
            learner,
            policy=policy,
            log_temperature=log_temperature,
            optimisers=state,
            policy_metrics=metrics,
            average=learner.average and moving_average(learner.average, policy, self.averaging),
        )

    def policy_loss(self, policy: Network, learner: Learner, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Metrics]:
        """temperature * log pi(a | s) - Q(s, a), a drawn from the policy (Haarnoja et al. 2018, equation 7);
        where there are demonstrations, also the distance to them."""
        action_key, dropout_key = jax.random.split(key)
        outputs = policy.batch(batch.obs, dropout_key)
        action, log_prob = self.sample(outputs, action_key)
        values = self.values(learner.critics.evaluate(jnp.concatenate([batch.obs, action], axis=1)))
        q = jnp.mean(values, axis=0) if self.critic.mean_for_policy else self.lowest(values, learner.terminates)
        loss = jnp.mean(learner.temperature * log_prob - q)
        if batch.demo is not None:
            worth = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
            loss = loss + self.cloning * worth * masked_mean(self.apart(outputs, batch.action), batch.demo)
        return loss, {"policy_loss": loss, "entropy": -jnp.mean(log_prob)}

    def apart(
        self, outputs: Float32[Array, "batch twice_action"], actions: Float32[Array, "batch action"]
    ) -> Float32[Array, "batch"]:
        """Squared distances from the modes to the actions (Fujimoto and Gu 2021, "A Minimalist Approach to Offline
        Reinforcement Learning", equation 3)."""
        return jnp.mean((self.modes(outputs) - actions) ** 2, axis=1)

    def temperature_loss(
        self, log_temperature: Array, log_prob: Float32[Array, "batch"], action_dim: int
    ) -> tuple[Array, Array]:
        """temperature * (entropy - its target) (Haarnoja et al. 2018, equation 18)."""
        target = self.entropy.target if self.entropy.target is not None else self.entropy.per_dimension * action_dim
        loss = jnp.exp(log_temperature) * (jnp.mean(-log_prob) - target)
        return loss, loss
