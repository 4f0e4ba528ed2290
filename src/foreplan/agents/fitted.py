"""What MB-MPC and PETS share: dynamics that are fitted to all data after each episode, and a planner that looks ahead
in them before every action."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.core.types import Memory, Metrics, Spec, TimeStep
from foreplan.planners.acting import act, memories
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.fitting import WorldFitting, refit
from foreplan.worlds.known import check, reward_error


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
    every: int | None = None  # decisions between two fits; None: an episode, or 200 where its length is not known
    min_seed_steps: int | None = None  # decisions at random; None: the same

    def __post_init__(self) -> None:
        if self.effort < 0.0:
            raise UsageError(f"effort is {self.effort}; accepted: 0, or a price above it")

    @abstractmethod
    def look_ahead(
        self, learner: EnsembleWorld, obs: Float32[Array, "obs"], key: PRNGKeyArray
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

    def init(self, spec: Spec, key: PRNGKeyArray) -> EnsembleWorld:
        check(self.reward, "reward", spec)
        learned = self.reward == "learned"
        return EnsembleWorld.create(spec, self.network, key, reward=learned, terminated=self.terminated)

    def refit(self, learner: EnsembleWorld, replay: Replay, key: PRNGKeyArray) -> tuple[EnsembleWorld, Metrics]:
        learner, metrics = refit(learner, replay, self.fitting, key)
        return learner, metrics | reward_error(replay, self.reward)

    def learn(
        self, learner: EnsembleWorld, replay: Replay, key: PRNGKeyArray, num_updates: int
    ) -> tuple[EnsembleWorld, Metrics]:
        return learner, {}

    # ------------------------------------------------------------------ plan and act
    def memory(self, spec: Spec) -> Memory:
        return memories(self.planner, spec)

    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(
        self, learner: EnsembleWorld, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Metrics]:
        return act(self.planner, partial(self.look_ahead, learner), timestep, memory, key, explore)
