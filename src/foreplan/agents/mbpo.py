"""MBPO (Janner, Fu, Zhang, Levine: "When to Trust Your Model: Model-Based Policy Optimization", NeurIPS 2019).

 1. every `every` decisions, train the ensemble on all real data by maximum likelihood      `refit` (worlds/fitting.py)
 2. act in the environment by the policy; store the transition                              `act`
 3. branch off: from real states, k steps of the policy in the model, k on a schedule       `branch`, `Schedule`
 4. for each decision, G updates of the policy on what was imagined, and a little real data `learn`

(Algorithm 2.) The policy is a `SAC`, held as a field and used as it is. Episodes end in the model as they do in the
world: the ensemble learns where, or a user's termination function says it once every real transition has agreed
(`worlds/known.py`); a rollout is cut where its end is drawn, and the terminal transition is kept. Rollouts may also be
gated by how far the elites disagree, after MACURA (Frauenknecht et al. 2024, "Trust the Model Where It Trusts Itself"),
and thinned by it.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.agents.mbpo_parts import check_finite, disagreement, foretold, rewards_foretold
from foreplan.agents.sac import SAC
from foreplan.agents.sac_parts import Entropy
from foreplan.agents.sac_parts import Learner as Policy
from foreplan.agents.sac_presets import FRUGAL_SIZES
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting, over
from foreplan.core.learning import repeat_updates
from foreplan.core.replay import Replay, Window, extend, sample
from foreplan.core.types import LearnedParts, Metrics, Spec, Step, TimeStep
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.fitting import WorldFitting, refit

SLOWLY = 0.1  # of the way to what one fit says, goes the automatic ratio: few held-out episodes are an unsure judge


@dataclass(frozen=True)
class Schedule:
    """Steps of a rollout: `shortest` until `begin` decisions, then in a straight line up to `longest` at `end`."""

    shortest: int = 1
    longest: int = 1
    begin: int = 20_000
    end: int = 150_000

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise UsageError(
                f"rollouts go from {self.shortest} to {self.longest} steps; accepted: at least 1, and never shrinking"
            )
        if not 0 <= self.begin < self.end:
            raise UsageError(f"rollouts grow from {self.begin} to {self.end} decisions; accepted: 0 <= begin < end")

    def length(self, decisions: Int32[Array, ""]) -> Int32[Array, ""]:
        share = (decisions.astype(jnp.float32) - self.begin) / (self.end - self.begin)
        grown = self.shortest + jnp.clip(share, 0.0, 1.0) * (self.longest - self.shortest)
        return jnp.floor(grown + 1e-4).astype(jnp.int32)


@dataclass(frozen=True)
class Rollouts:
    every: int = 250  # decisions between two fits of the model, each followed by rollouts
    number: int = 100  # rollouts for each of these decisions
    capacity: int = 100_000  # imagined transitions that are kept, at most
    kept: int | None = None  # decisions whose rollouts are kept, if they were as long as today's; None: as many as fit
    schedule: Schedule = field(default_factory=Schedule)
    gate: float | None = None  # a rollout ends where the elites disagree by more than this multiple of what they do on
    #                            95 % of the real states that it might begin in; None: nowhere
    thin: bool = False  # keep a transition with a probability that falls as the elites disagree, as exp(-disagreement)

    def __post_init__(self) -> None:
        if min(self.every, self.number) < 1 or self.capacity < self.every * self.number:
            raise UsageError(
                f"every {self.every} decisions {self.number} rollouts each do not fit a capacity of {self.capacity};"
                " accepted: numbers from 1 up, and a capacity that holds one step of all"
            )
        if self.kept is not None and self.kept < self.every:
            raise UsageError(f"kept is {self.kept}; accepted: none, or at least the {self.every} between two fits")
        if self.gate is not None and self.gate <= 0:
            raise UsageError(f"gate is {self.gate}; accepted: numbers above 0, or none")


class Learner(eqx.Module):
    sac: Policy
    world: EnsembleWorld
    imagined: Replay
    real: Float32[Array, ""]  # share of each batch, where it is automatic


@dataclass(frozen=True)
class MBPO:
    sac: SAC = field(default_factory=SAC)
    network: Network = field(default_factory=Network)
    fitting: WorldFitting = field(default_factory=WorldFitting)
    rollouts: Rollouts = field(default_factory=Rollouts)
    terminated: str = "learned"  # or a user's function of one (obs, action, next obs), "module:function", in JAX
    real_ratio: float | Literal["auto"] = 0.05  # of each batch; auto: see `real_share`
    utd: float = 20.0  # gradient updates a decision
    min_seed_steps: int = 1000  # decisions at random before learning

    def __post_init__(self) -> None:
        if self.real_ratio != "auto" and not 0 <= self.real_ratio <= 1:
            raise UsageError(f"real-ratio is {self.real_ratio}; accepted: numbers from 0 to 1, or auto")
        if self.sac.data.n_step != 1:
            raise UsageError(f"n-step is {self.sac.data.n_step}; accepted by MBPO: 1, for the model's steps are single")

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        policy_key, world_key = jax.random.split(key)
        return Learner(
            sac=self.sac.init(spec, policy_key),
            world=EnsembleWorld.create(spec, self.network, world_key, terminated=self.terminated),
            imagined=Replay.create(
                replace(spec, num_envs=1), self.rollouts.capacity, option="--agent.rollouts.capacity"
            ),
            real=jnp.float32(1.0 if self.real_ratio == "auto" else self.real_ratio),
        )

    def seed_steps(self, spec: Spec) -> int:
        return self.min_seed_steps

    # ------------------------------------------------------------------ 2. act
    def memory(self, spec: Spec) -> tuple[()]:
        return self.sac.memory(spec)

    def act(
        self, learner: Learner, timestep: TimeStep, memory: tuple[()], key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], tuple[()], Metrics]:
        return self.sac.act(learner.sac, timestep, memory, key, explore)

    def parts(self, learner: Learner) -> LearnedParts:
        return learner.world.parts(self.network) | self.sac.parts(learner.sac)

    # ------------------------------------------------------------------ 1. train the model
    def refit_every(self, spec: Spec) -> int:
        return self.rollouts.every

    def refit(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """Raises Diverged where a member no longer gives numbers."""
        fit_key, branch_key, check_key, share_key = jax.random.split(key, 4)
        world, metrics = refit(learner.world, replay, self.fitting, fit_key)
        check_finite(world, sample(replay, 256, 1, check_key))
        learner = replace(learner, world=world)
        imagined, branched = self.branch(learner, replay, branch_key)
        metrics = {f"model_{name}": value for name, value in metrics.items()} | branched
        if self.real_ratio == "auto":
            real = learner.real + SLOWLY * (self.real_share(learner, replay, share_key) - learner.real)
            metrics |= {"real_ratio": jnp.copy(real)}  # the learner's own is donated before it is logged
            learner = replace(learner, real=real)
        return replace(learner, imagined=imagined), metrics

    @partial(jax.jit, static_argnames="self")
    def real_share(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> Float32[Array, ""]:
        """1 where the model knows nothing of what actions change, or of rewards. A batch a decision is real whatever it
        knows: new data, which no model betters; imagined ones take the place of further looks at the same."""
        _, value = self.sac.parts(learner.sac)["value"]  # in the units of rewards
        choose, fitting = partial(self.choose, learner.sac), self.fitting.fitting
        known = jnp.minimum(
            foretold(learner.world, jax.vmap(value), choose, replay, fitting, self.sac.discount, key),
            rewards_foretold(learner.world, replay, fitting),
        )
        further = 1.0 - 1.0 / max(1.0, self.utd)
        return jnp.maximum(0.05, 1.0 - known * further)

    # ------------------------------------------------------------------ 3. branch off
    @partial(jax.jit, static_argnames="self")
    def branch(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Replay, Metrics]:
        """The buffer of imagined transitions after k-step rollouts from real states."""
        world, shares = learner.world, len(learner.world.elites)
        number = self.rollouts.every * self.rollouts.number // shares * shares
        start_key, limit_key, key = jax.random.split(key, 3)
        obs = sample(replay, number, 1, start_key).obs[:, 0]
        limit = jnp.full((), jnp.inf)
        if self.gated:
            action = self.choose(learner.sac, obs, limit_key)
            limit = (self.rollouts.gate or 1.0) * jnp.percentile(disagreement(world, obs, action), 95.0)

        def step(
            t: Int32[Array, ""], carry: tuple[Replay, Array, Bool[Array, "n"]]
        ) -> tuple[Replay, Array, Bool[Array, "n"]]:
            imagined, obs, alive = carry
            action_key, move_key, end_key, thin_key = jax.random.split(jax.random.fold_in(key, t), 4)
            action = self.choose(learner.sac, obs, action_key)
            after, reward, going_on = world.transitions(obs, action, move_key)
            terminated = jax.random.uniform(end_key, going_on.shape) >= going_on
            alive = alive & jnp.all(jnp.isfinite(after), axis=1) & jnp.isfinite(reward)
            keep = alive
            if self.gated:
                doubt = disagreement(world, obs, action) / limit
                alive = alive & ((doubt <= 1.0) | (self.rollouts.gate is None))
                thinned = jax.random.uniform(thin_key, doubt.shape) > jnp.exp(-doubt)
                keep = alive & ~(thinned & self.rollouts.thin)
            never, episode = jnp.zeros_like(terminated), jnp.zeros(terminated.shape, jnp.int32)
            imagined = extend(imagined, Step(obs, action, reward, terminated, never, after, episode), keep)
            return imagined, after, alive & ~terminated

        length = self.rollouts.schedule.length(replay.size * replay.steps.reward.shape[1])
        begin = learner.imagined, obs, jnp.ones(number, jnp.bool_)
        imagined, _, alive = jax.lax.fori_loop(0, length, step, begin)
        if self.rollouts.kept is not None:  # the newest; older models and policies made the rest
            room = self.rollouts.kept * self.rollouts.number * length
            imagined = replace(imagined, size=jnp.minimum(imagined.size, room))
        return imagined, {
            "rollout_length": length.astype(jnp.float32),
            "rollouts_whole": jnp.mean(alive, dtype=jnp.float32),
            "imagined_transitions": imagined.size.astype(jnp.float32),
        }

    @property
    def gated(self) -> bool:
        return self.rollouts.gate is not None or self.rollouts.thin

    def choose(self, learner: Policy, obs: Float32[Array, "n obs"], key: PRNGKeyArray) -> Float32[Array, "n action"]:
        return self.sac.sample(jax.vmap(learner.policy)(self.sac.seen_as(learner, obs)), key)[0]

    # ------------------------------------------------------------------ 4. update the policy
    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        """Every batch has `real_ratio` of real transitions, the rest are imagined."""
        size = self.sac.data.batch_size
        share = learner.real if self.real_ratio == "auto" else jnp.float32(self.real_ratio)
        real = jnp.arange(size, dtype=jnp.int32) < jnp.round(share * size).astype(jnp.int32)

        def update(policy: Policy, window: Window, key: PRNGKeyArray) -> tuple[Policy, Metrics]:
            sample_key, update_key = jax.random.split(key)
            imagined = sample(learner.imagined, size, 1, sample_key)
            if window.demo is not None:
                imagined = replace(imagined, demo=jnp.zeros(size, jnp.bool_))
            window = replace(window, extras={})  # the model imagines none
            mixed = jax.tree.map(lambda known, new: jnp.where(over(real, known), known, new), window, imagined)
            return self.sac.update(policy, mixed, update_key)

        policy, metrics = repeat_updates(
            update,
            self.sac.observe(learner.sac, replay),
            replay,
            key,
            num_updates=num_updates,
            batch_size=size,
            horizon=1,
        )
        return replace(learner, sac=policy), metrics

    def value(self, learner: Learner, obs: Float32[Array, "n obs"]) -> Float32[Array, "n"]:
        return self.sac.value(learner.sac, obs)

    def hold_out_losses(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Array, Array]:
        return self.sac.hold_out_losses(learner.sac, replay, key)


def _official(
    target: float,
    utd: float = 20.0,
    longest: int = 1,
    epochs: tuple[int, int] = (20, 150),
    every: int = 250,
    kept: int = 1000,
    width: int = 200,
    seed_steps: int = 5000,
) -> MBPO:
    """As the authors set it for a task (tests/parity/README.md): the entropy's target in nats of a whole action, and
    rollouts that grow between two epochs of 1,000 decisions, which they count from the end of the seed steps."""
    begin, end = (seed_steps + 1000 * epoch for epoch in epochs)
    number = 100_000 // every
    return MBPO(
        sac=SAC(entropy=Entropy(target=target)),
        network=Network(width=width),
        fitting=WorldFitting(Fitting(hold_out=0.2)),
        rollouts=Rollouts(every, number, kept * number * longest, kept, Schedule(1, longest, begin, end)),
        utd=utd,
        min_seed_steps=seed_steps,
    )


SIZES = {
    "default": MBPO(  # ours, for tasks that one has not met
        sac=FRUGAL_SIZES["utd2"],
        network=Network(head_layers=4, head_width=200),
        fitting=WorldFitting(Fitting(patience=2, averaging=0.003), decay=(0.0,)),
        real_ratio="auto",
        utd=10.0,
    ),
    "small": MBPO(  # for tasks of a few thousand steps: the model is fitted early and often
        sac=SAC(entropy=Entropy(initial=0.1, target=-0.05)),
        rollouts=Rollouts(every=100, number=200, schedule=Schedule(shortest=2, longest=5, begin=500, end=2000)),
        min_seed_steps=300,
    ),
    "ant": _official(-4.0, longest=25, epochs=(20, 100)),
    "halfcheetah": _official(-3.0, utd=40.0),
    "hopper": _official(-1.0, longest=15),
    "humanoid": _official(-2.0, longest=25, epochs=(20, 300), every=1000, kept=5000, width=400),
    "inverted-pendulum": _official(-0.05, utd=10.0, kept=250, seed_steps=500),
    "inverted-double-pendulum": _official(-0.5, kept=250, seed_steps=500),
    "walker2d": _official(-3.0),
}
