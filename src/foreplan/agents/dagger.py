"""DAgger (Ross, Gordon, Bagnell: "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning", AISTATS 2011, algorithm 3.1). In each round i:

 1. let pi_i = beta_i pi* + (1 - beta_i) pi^_i: a coin at every step says who acts          `DAgger.act`, `Beta`
 2. sample trajectories by pi_i                                                            the loop of training
 3. get D_i, the visited states with what the expert would do there, and add it to D        `DAgger.act`, the buffer
      the expert is asked everywhere, or where a `Query` says so, within its budget
 4. train pi^_{i+1} on D                                                                    `BC.refit`

HG-DAgger (Kelly et al. 2019): with `takeover` the expert watches, takes over where it would do something else by more
than that, until they agree to within half of it, and only then labels.

The policy that acts is deterministic. Where an expert does not know, the policy acts and there is no label.
"""

import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.agents import bc
from foreplan.agents.experts import Expert
from foreplan.agents.queries import DISCOUNT, Doubt, Query
from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.core.types import LearnedParts, Metrics, Spec, TimeStep

Notes = dict[str, Any]


@dataclass(frozen=True)
class Beta:
    """How probable it is that the expert acts, by round: 1 in the first and then 0; rate^round; or 1 - rate * round."""

    schedule: Literal["first", "exponential", "linear"] = "first"
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise UsageError(f"rate is {self.rate}; accepted: numbers in [0, 1]")

    def __call__(self, round: Int32[Array, ""]) -> Float32[Array, ""]:
        i = round.astype(jnp.float32)
        if self.schedule == "exponential":
            return self.rate**i
        return jnp.maximum(0.0, 1.0 - (self.rate if self.schedule == "linear" else 1.0) * i)


class Learner(eqx.Module):
    policy: bc.Learner
    doubt: Doubt

    @property
    def round(self) -> Int32[Array, ""]:
        return self.policy.fits


class Memory(eqx.Module):
    expert: Any
    asked: Int32[Array, "env"]  # labels so far, over all episodes
    value: Float32[Array, "env"]  # of the last state
    in_charge: Bool[Array, "env"]  # whether the expert has taken over


class Turn(eqx.Module):
    """One decision, before the expert has answered."""

    own: Float32[Array, "env action"]  # what the policy would do
    leads: Bool[Array, "env"]  # where the expert is to act
    asks: Bool[Array, "env"]  # where a label is wanted
    wanted: Bool[Array, "env"]  # where the expert is to be asked, for either
    doubt: Float32[Array, "env"]
    value: Float32[Array, "env"]
    expert_key: PRNGKeyArray


def student(policy: bc.BC) -> bc.BC:
    """Fitted in each round from fresh weights."""
    return replace(policy, anew=True)


@dataclass(frozen=True)
class DAgger:
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous", "discrete")
    teacher: ClassVar[Expert | None] = None  # who `expert` names, once there is an environment: see `taught_by`

    expert: str = "plan"  # plan, a run directory, or package.module:callable
    policy: bc.BC = field(default_factory=lambda: student(bc.BC()))
    round_steps: int = 1000  # decisions
    beta: Beta = field(default_factory=Beta)
    query: Query = field(default_factory=Query)
    takeover: float | None = None  # mean distance of actions at which the expert takes over: HG-DAgger
    utd: float = 0.0  # gradient updates a decision, besides the fits

    def __post_init__(self) -> None:
        if self.round_steps < 1:
            raise UsageError(f"round-steps is {self.round_steps}; accepted: whole numbers from 1 up")
        if self.query.strategy == "disagreement" and self.policy.members < 2:
            raise UsageError(
                "members is 1; to ask where they disagree there must be at least 2 (--agent.policy.members)"
            )

    def taught_by(self, expert: Expert) -> "DAgger":
        """The same agent with somebody to ask."""
        taught = copy.copy(self)
        object.__setattr__(taught, "teacher", expert)
        return taught

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        policy_key, doubt_key = jax.random.split(key)
        return Learner(self.policy.init(spec, policy_key), Doubt.create(spec.obs_shape[0], doubt_key))

    def memory(self, spec: Spec) -> Memory:
        return Memory(
            expert=() if self.teacher is None else self.teacher.memory(spec),
            asked=jnp.zeros(spec.num_envs, jnp.int32),
            value=jnp.zeros(spec.num_envs),
            in_charge=jnp.zeros(spec.num_envs, jnp.bool_),
        )

    def seed_steps(self, spec: Spec) -> int:
        return 0

    def extras(self, spec: Spec) -> dict[str, Array]:
        more = {"intervention": jnp.zeros(spec.num_envs, jnp.bool_), "doubt": jnp.zeros(spec.num_envs)}
        return self.policy.extras(spec) | more

    def parts(self, learner: Learner) -> LearnedParts:
        return self.policy.parts(learner.policy)

    # ------------------------------------------------------------------ 1. to 3. act, and ask
    def act(
        self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Notes]:
        """Exploring, the mixture of expert and policy, and labels; else the policy alone."""
        if not explore:
            actions, _, notes = self.policy.act(learner.policy, timestep, (), key, False)
            return actions, _fresh(memory, timestep.first), notes
        if self.teacher is None:
            raise UsageError("DAgger has nobody to ask: name somebody with --agent.expert")
        turn = self._ask(learner, timestep, memory, key)
        wanted = np.asarray(jax.device_get(turn.wanted))
        expert_memory, labels, known = memory.expert, np.zeros(turn.own.shape, np.float32), np.zeros_like(wanted)
        if wanted.any():
            labels, known, expert_memory = self.teacher.label(timestep, expert_memory, turn.expert_key, wanted)
        actions, memory, notes = self._settle(learner, memory, turn, *jax.device_put((labels, known)))
        return actions, replace(memory, expert=expert_memory), notes

    def doubt(self, learner: Learner, obs: Float32[Array, "n obs"]) -> Float32[Array, "n"] | None:
        return self.policy.doubt(learner.policy, obs)

    @partial(jax.jit, static_argnames="self")
    def _ask(self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray) -> Turn:
        """What is settled before the expert answers."""
        policy, obs = learner.policy.policy, jnp.asarray(timestep.obs)
        expert_key, key = jax.random.split(key)
        coin_key, ask_key = jax.random.split(key)
        value = jax.vmap(lambda o: learner.doubt.value((o - policy.mean) / policy.std)[0])(obs)
        doubt = jax.vmap(policy.disagreement)(obs)
        if self.query.strategy == "value-drop":
            expected = jnp.asarray(timestep.reward) + DISCOUNT * value
            doubt = jnp.where(jnp.asarray(timestep.first), 0.0, memory.value - expected)
        leads = jax.random.uniform(coin_key, doubt.shape) < self.beta(learner.round)
        asks = self.query.asks(learner.doubt, doubt, memory.asked, learner.round == 0, ask_key)
        return Turn(
            own=jax.vmap(lambda o: policy.act(o, coin_key, False))(obs),
            leads=leads,
            asks=asks,
            wanted=asks | leads,
            doubt=doubt,
            value=value,
            expert_key=expert_key,
        )

    @partial(jax.jit, static_argnames="self")
    def _settle(
        self,
        learner: Learner,
        memory: Memory,
        turn: Turn,
        label: Float32[Array, "env action"],
        known: Bool[Array, "env"],
    ) -> tuple[Float32[Array, "env action"], Memory, Notes]:
        """Who acts, and which answers count as labels."""
        distance = jnp.mean(jnp.abs(turn.own - label), axis=1)
        leads, asks = turn.leads & known, turn.asks & known
        if self.takeover is not None:
            level = jnp.where(memory.in_charge, 0.5, 1.0) * self.takeover
            leads = known & (leads | (distance > level))
            asks = asks & leads
        labelled = asks & self.query.counts(learner.doubt, distance, learner.round == 0)
        notes = {
            "label": label,
            "labelled": labelled,
            "intervention": leads,
            "doubt": distance if self.query.strategy == "distance" else turn.doubt,
            "expert_share": jnp.mean(leads.astype(jnp.float32)),
            "label_share": jnp.mean(labelled.astype(jnp.float32)),
        }
        actions = jnp.where(leads[:, None], label, turn.own)
        return actions, Memory((), memory.asked + labelled.astype(jnp.int32), turn.value, leads), notes

    # ------------------------------------------------------------------ 4. learn
    def refit_every(self, spec: Spec) -> int:
        return self.round_steps

    def refit(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        policy, metrics = self.policy.refit(learner.policy, replay, key)
        mean, std = policy.policy.mean, policy.policy.std
        doubt = self.query.refit(learner.doubt, replay, self.round_steps, mean, std, key)
        return Learner(policy, doubt), metrics | {"round": policy.fits.astype(jnp.float32)}

    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        policy, metrics = self.policy.learn(learner.policy, replay, key, num_updates)
        return Learner(policy, learner.doubt), metrics


@jax.jit
def _fresh(memory: Memory, first: Bool[Array, "env"]) -> Memory:
    """With nothing asked yet where an episode of an evaluation begins."""
    zero = jax.tree.map(jnp.zeros_like, (memory.asked, memory.value, memory.in_charge))
    kept = memory.asked, memory.value, memory.in_charge
    return Memory(memory.expert, *jax.tree.map(lambda z, k: jnp.where(first, z, k), zero, kept))


SIZES: dict[str, DAgger] = {"small": DAgger(), "large": DAgger(policy=student(bc.SIZES["large"]))}
