"""What MB-MPC and PETS share: dynamics that are fitted to all data after each episode, if wanted with a value beyond
the horizon, and a planner that looks ahead in them before every action."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.planned_value import ValuePlanning, fit_planned
from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.core.types import LearnedParts, Memory, Metrics, Spec, TimeStep
from foreplan.planners.acting import act, memories
from foreplan.worlds.composed import Composed, Parts, compose_members
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.fitting import WorldFitting, refit
from foreplan.worlds.foresight import Foresight
from foreplan.worlds.known import check, known, reward_error
from foreplan.worlds.value import WEIGHTS, Value, ValueFitting, ValueNetwork, fit_value


class Learned(eqx.Module):
    world: EnsembleWorld
    value: Value | None = None  # beyond the horizon


@dataclass(frozen=True)
class Fitted:
    """`reward` and `terminated` are "learned", or name a user's function, "module:function", of one (obs, action, next
    obs), in JAX (`worlds/known.py`)."""

    planner: Any
    network: Network = field(default_factory=Network)
    fitting: WorldFitting = field(default_factory=WorldFitting)
    reward: str = "learned"
    terminated: str = "learned"
    effort: float = 0.0  # taken off a planned reward for an action's mean square, to tell plans apart that earn alike
    value: Literal["none", "return", "lambda", "td", "plan", "given"] = "none"  # what a value beyond the horizon is
    #                                                                             fitted to; given: a part, to nothing
    value_network: ValueNetwork = field(default_factory=ValueNetwork)
    value_planning: ValuePlanning = field(default_factory=ValuePlanning)  # of "plan"
    discount: float = 0.99  # of a decision, where there is such a value
    every: int | None = None  # decisions between two fits; None: an episode, or 200 where its length is not known
    min_seed_steps: int | None = None  # decisions at random; None: the same

    def __post_init__(self) -> None:
        if self.effort < 0.0:
            raise UsageError(f"effort is {self.effort}; accepted: 0, or a price above it")
        if self.value not in (accepted := ("none", *WEIGHTS, "plan", "given")):
            raise UsageError(f"value is {self.value!r}; accepted: {', '.join(map(repr, accepted))}")
        if not 0.0 <= self.discount < 1.0:
            raise UsageError(f"discount is {self.discount}; accepted: numbers from 0 to below 1")

    @abstractmethod
    def look_ahead(
        self, learner: Learned, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Any, Float32[Array, "obs"]]:
        """What has been learned as a model to plan in, for any planner; its state is what is observed."""

    # ------------------------------------------------------------------ the data and the fits
    @property
    def utd(self) -> float:
        return 0.0  # no gradient updates between the fits

    def seed_steps(self, spec: Spec) -> int:
        return self.min_seed_steps or self.refit_every(spec)

    def refit_every(self, spec: Spec) -> int:
        return self.every or spec.episode_length or 200

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learned:
        check(self.reward, "reward", spec)
        learned = self.reward == "learned"
        world = EnsembleWorld.create(spec, self.network, key, reward=learned, terminated=self.terminated)
        if self.value == "none":
            return Learned(world, None)
        return Learned(world, Value.create(spec, self.value_network, jax.random.fold_in(key, 1), self.discount))

    def refit(self, learner: Learned, replay: Replay, key: PRNGKeyArray) -> tuple[Learned, Metrics]:
        world_key, value_key = jax.random.split(key)
        world, metrics = refit(learner.world, replay, self.fitting, world_key)
        value, found = self.refit_value(Learned(world, learner.value), replay, value_key)
        return Learned(world, value), metrics | reward_error(replay, self.reward) | found

    def refit_value(self, learner: Learned, replay: Replay, key: PRNGKeyArray) -> tuple[Value | None, Metrics]:
        if learner.value is None or self.value == "given":
            return learner.value, {}
        if self.value == "plan":
            return self.plan_value(learner, replay, key)
        value, metrics, _ = fit_value(learner.value, replay, ValueFitting(self.value, self.discount), key)  # type: ignore[arg-type]
        return value, metrics

    @partial(jax.jit, static_argnames="self")
    def plan_value(self, learner: Learned, replay: Replay, key: PRNGKeyArray) -> tuple[Value, Metrics]:
        """Each plan is made in one of the elites."""

        def ahead(value: Value, key: PRNGKeyArray) -> Foresight | Composed:
            members = self.members(Learned(learner.world, value), self.effort)
            number = jax.random.randint(key, (), 0, len(learner.world.elites))
            return jax.tree.map(lambda leaf: leaf[number], members)

        assert learner.value is not None
        action_dim = replay.steps.action.shape[-1]
        return fit_planned(learner.value, ahead, action_dim, replay, self.value_planning, key)

    def learn(self, learner: Learned, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learned, Metrics]:
        return learner, {}

    def parts(self, learner: Learned) -> LearnedParts:
        value = {} if learner.value is None else {"value": (self.value_network, learner.value)}
        return learner.world.parts(self.network) | value

    # ------------------------------------------------------------------ plan and act
    def members(self, learner: Learned, effort: float = 0.0) -> Foresight | Composed:
        """The elites, stacked, with the value if there is one."""
        world, reward = learner.world, known(self.reward, "reward")
        if learner.value is None:
            return Foresight(world.members(world.elites), reward, effort)
        return compose_members(Parts(dynamics=world, value=learner.value), reward, effort)

    def memory(self, spec: Spec) -> Memory:
        return memories(self.planner, spec)

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(
        self, learner: Learned, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Metrics]:
        return act(self.planner, partial(self.look_ahead, learner), timestep, memory, key, explore)
