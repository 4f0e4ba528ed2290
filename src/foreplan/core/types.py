"""The words every floor shares: what an environment says, what the buffer keeps, and what an agent, a planner, an
environment and a simulator must be able to do."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.spec import Exactness as Exactness
from foreplan.core.spec import Snapshot as Snapshot
from foreplan.core.spec import Spec as Spec

Memory = Any  # a pytree: all that acting carries within an episode
Learner = Any  # a pytree: all that training changes
Metrics = dict[str, Array]


class TimeStep(eqx.Module):
    """What the vector environment says after a step; every leaf is [env, ...].

    `obs` is the true successor, also where the episode has ended: replacing it by the first observation of the next
    episode is a separate, explicit call (`VectorEnv.restart`), which alone sets `first`.
    """

    obs: Float32[Array | np.ndarray, "env *obs"]
    reward: Float32[Array | np.ndarray, "env"]
    terminated: Bool[Array | np.ndarray, "env"]
    truncated: Bool[Array | np.ndarray, "env"]
    first: Bool[Array | np.ndarray, "env"]


class Step(eqx.Module):
    """What the replay buffer keeps of one transition; leaves are [time, env, ...] in the buffer.

    `next_obs` is kept beside `obs` so that the observation at which an episode was truncated survives the reset.
    `episode` numbers the episodes of a run, so that data can be split by episode once and for ever. `extras` is what
    an agent wants to be kept besides, such as an expert's label: see `Agent`.
    """

    obs: Float32[Array | np.ndarray, "*batch obs"]
    action: Float32[Array | np.ndarray, "*batch action"]
    reward: Float32[Array | np.ndarray, "*batch"]
    terminated: Bool[Array | np.ndarray, "*batch"]
    truncated: Bool[Array | np.ndarray, "*batch"]
    next_obs: Float32[Array | np.ndarray, "*batch obs"]
    episode: Int32[Array | np.ndarray, "*batch"]
    extras: dict[str, Array] = eqx.field(default_factory=dict)


@runtime_checkable
class VectorEnv(Protocol):
    """`num_envs` copies of one environment, stepped together. A step is `send` then `recv`; what ended is then begun
    anew by `restart`, so that no autoreset ever invents a transition."""

    name: str
    spec: Spec
    exactness: Exactness

    def reset(self, seed: int) -> TimeStep: ...
    def send(self, actions: np.ndarray) -> None: ...
    def recv(self) -> TimeStep: ...
    def restart(self, after: TimeStep) -> TimeStep: ...
    def snapshot(self) -> Snapshot: ...
    def restore(self, snapshot: Snapshot) -> None: ...
    def render(self, index: int = 0) -> np.ndarray: ...  # uint8 [height, width, 3]
    def close(self) -> None: ...


@runtime_checkable
class Agent(Protocol):
    """A frozen dataclass: its fields are the configuration and, through tyro, the command line.

    `act` returns (actions, memory, notes): notes are scalars for the log. An agent may also have
    `extras(spec) -> {name: zeros [env, ...]}`: what `act` notes, besides, of each decision for the buffer to keep.
    """

    @property
    def utd(self) -> float: ...  # gradient updates a decision; may be a fraction
    def seed_steps(self, spec: Spec) -> int: ...  # decisions at random before learning begins
    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner: ...
    def memory(self, spec: Spec) -> Memory: ...
    def act(
        self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Metrics]: ...
    def learn(self, learner: Learner, replay: Any, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]: ...


@runtime_checkable
class Refits(Agent, Protocol):
    """An agent that, besides, fits to all data from time to time, such as a model to a hold-out set."""

    def refit_every(self, spec: Spec) -> int: ...  # decisions between two calls of `refit`, from the seed steps on
    def refit(self, learner: Learner, replay: Any, key: PRNGKeyArray) -> tuple[Learner, Metrics]: ...


@runtime_checkable
class Relabels(Agent, Protocol):
    """An agent whose learning also changes what the buffer keeps besides transitions, its `extras`: it is called after
    every call of `learn`."""

    def relabel(self, learner: Learner, replay: Any, key: PRNGKeyArray) -> Any: ...


@runtime_checkable
class Validates(Agent, Protocol):
    """An agent whose UTD can be adapted while it learns: it says its loss on the episodes that the buffer holds out,
    and on those that it trains on. It is traced."""

    def hold_out_losses(
        self, learner: Learner, replay: Any, key: PRNGKeyArray
    ) -> tuple[Float32[Array, ""], Float32[Array, ""]]: ...


LearnedParts = dict[str, tuple[Any, Any]]  # kind: (form, module)


@runtime_checkable
class LearnsParts(Protocol):
    """An agent with parts that stand by themselves (`run.parts`)."""

    def parts(self, learner: Learner) -> LearnedParts: ...


@runtime_checkable
class LooksAhead(Protocol):
    """What an agent must have so that any planner can plan in its model, from what is observed.

    `look_ahead` gives a `Model` (or `Members` of an ensemble) and its state where
    one `obs` [obs] is seen. It is traced.
    """

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner: ...
    def look_ahead(self, learner: Learner, obs: Float32[Array, "obs"], key: PRNGKeyArray) -> tuple[Any, Any]: ...


@runtime_checkable
class Planner(Protocol):
    """Improves a sequence of actions by asking what candidates return. One environment; `core` vmaps it."""

    def init(self, horizon: int, action_dim: int) -> Memory: ...
    def ask(self, memory: Memory, proposals: Any, key: PRNGKeyArray) -> Float32[Array, "n horizon action"]: ...
    def tell(
        self, memory: Memory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> Memory: ...
    def act(self, memory: Memory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]: ...


@runtime_checkable
class Simulator(Protocol):
    """A real world that can be rolled back, on the host."""

    exactness: Exactness

    def snapshot(self) -> Snapshot: ...
    def restore(self, snapshot: Snapshot) -> None: ...
    def rollout(self, snapshot: Snapshot, actions: np.ndarray) -> Sequence[np.ndarray]: ...
