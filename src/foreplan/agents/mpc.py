"""Model predictive control (Richalet et al. 1978): nothing is learned; before every action a plan is made anew.

 1. where an episode begins, forget the last plan                             `MPC.act`
 2. look ahead from where each environment is, from the last plan on          `View.plan`
      a. in a simulator of it, rolled back after every candidate              `InSimulator`
      b. in the environment itself, where it is a model                       `InPlant`
      c. in the model that another agent has learned, from what is observed   `InAgent`
 3. do the plan's first action; in the next state plan again                  `MPC.act`

A view that needs the plant's state holds the plant: the vector environment in which the actions are executed. Such an
`MPC` belongs to one plant. `act` runs on the host.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.agents.composite import Offer, judged_by, proposed_by
from foreplan.core.errors import UsageError
from foreplan.core.learning import where_first
from foreplan.core.model import Model, Repeated
from foreplan.core.types import Learner, LooksAhead, Memory, Metrics, Spec, TimeStep, VectorEnv
from foreplan.envs.jax_native import JaxEnv
from foreplan.envs.jax_vector import JaxVectorEnv
from foreplan.envs.vector import HostVectorEnv
from foreplan.planners.risk import Members
from foreplan.planners.sampling import plan, plan_on_host
from foreplan.sims import names as sims
from foreplan.sims.judged import Judged
from foreplan.sims.rollout import scorer
from foreplan.sims.steps import Steps
from foreplan.worlds.composed import Parts, compose

Planned = tuple[Memory, Int32[Array, "env"]]  # memories, leaves [env, ...], and how many candidates were invalid

Foretold = dict[str, Any]  # "reward" [horizon], "obs" [horizon, obs] where that is known; NaN beyond the episode's end


@runtime_checkable
class View(Protocol):
    """Where one looks ahead, for all environments: leaves of `memories` are [env, ...]."""

    def learner(self, spec: Spec, key: PRNGKeyArray) -> Learner: ...
    def plan(self, planner: Any, learner: Learner, timestep: TimeStep, memories: Memory, keys: Array) -> Planned: ...
    def foretell(
        self, learner: Learner, timestep: TimeStep, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
    ) -> Foretold: ...  # of the first environment


@dataclass(frozen=True)
class InSimulator:
    """In `simulator`, from the plant's snapshots; one environment after the other. `offer`, where there is one, makes
    proposals (see `agents.composite.proposed_by`)."""

    plant: HostVectorEnv
    simulator: Any
    offer: Offer | None = None

    def learner(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return ()

    def plan(self, planner: Any, learner: Learner, timestep: TimeStep, memories: Memory, keys: Array) -> Planned:
        done = []
        for i, saved in enumerate(self.plant.snapshots()):
            memory, key = jax.tree.map(lambda leaf, i=i: leaf[i], (memories, keys))
            simulator, obs = self.simulator, timestep.obs[i]
            if hasattr(planner, "plan_in_steps"):  # one that needs more than returns
                done.append(planner.plan_in_steps(Steps(simulator, saved), memory))
                continue
            if isinstance(simulator, Judged):
                simulator = simulator.at(np.asarray(obs))
            offered = None if self.offer is None else self.offer(planner, saved, obs, jax.random.fold_in(key, 1))
            done.append(plan_on_host(planner, scorer(simulator, saved), memory, key, offered))
        found, invalid = zip(*done, strict=True)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found), jnp.array(invalid, jnp.int32)

    def foretell(
        self, learner: Learner, timestep: TimeStep, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
    ) -> Foretold:
        """Step by step in the simulator's own copy of the environment."""
        env = self.simulator.env
        reward = np.full(len(actions), np.nan)
        obs = np.full((len(actions), *env.spec.obs_shape), np.nan)
        env.restore(self.plant.snapshots()[0])
        for t, action in enumerate(np.asarray(actions)):
            obs[t], reward[t], terminated, truncated = env.step(action)
            if terminated or truncated:
                break
        return {"reward": reward, "obs": obs}


@dataclass(frozen=True)
class InPlant:
    """In a JAX-native environment, which is its own model. The learner may be `Parts` to use beside it, or ()."""

    plant: JaxVectorEnv

    def learner(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return ()

    @property
    def model(self) -> Model:
        repeat = self.plant.spec.action_repeat
        return self.plant.model if repeat == 1 else Repeated(self.plant.model, repeat)

    def plan(self, planner: Any, learner: Learner, timestep: TimeStep, memories: Memory, keys: Array) -> Planned:
        return _plan_each(planner, self.model, self.plant.model, learner, self.plant.states, memories, keys)

    def foretell(
        self, learner: Learner, timestep: TimeStep, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
    ) -> Foretold:
        state = jax.tree.map(lambda leaf: leaf[0], self.plant.states)
        return _unrolled(self.model, self.plant.model, learner, state, actions, key)


@dataclass(frozen=True)
class InAgent:
    """In what `agent` has learned, from observations alone. Its learner is the learner here."""

    agent: LooksAhead

    def learner(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return self.agent.init(spec, key)

    @partial(jax.jit, static_argnums=(0, 1))
    def plan(self, planner: Any, learner: Learner, timestep: TimeStep, memories: Memory, keys: Array) -> Planned:
        def plan_one(obs: Array, memory: Memory, key: PRNGKeyArray) -> tuple[Memory, Array]:
            model_key, plan_key = jax.random.split(key)
            model, state = self.agent.look_ahead(learner, obs, model_key)
            return plan(planner, model, state, memory, plan_key)

        return jax.vmap(plan_one)(jnp.asarray(timestep.obs), memories, keys)

    @partial(jax.jit, static_argnums=0)
    def foretell(
        self, learner: Learner, timestep: TimeStep, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
    ) -> Foretold:
        return self._foretold(learner, jnp.asarray(timestep.obs[0]), actions, key)

    @partial(jax.jit, static_argnums=0)
    def imagine(
        self, learner: Learner, obs: Float32[Array, "obs"], actions: Float32[Array, "horizon action"]
    ) -> Foretold:
        """What is foretold of a sequence of actions, from one observation on."""
        return self._foretold(learner, jnp.asarray(obs), actions, jax.random.key(0))

    def _foretold(self, learner: Learner, obs: Array, actions: Array, key: PRNGKeyArray) -> Foretold:
        """In an ensemble, by its first member."""
        model, state = self.agent.look_ahead(learner, obs, key)
        first = model.first() if isinstance(model, Members) else model
        return _unroll(first, getattr(first, "observe", None), state, actions, key)


@dataclass(frozen=True)
class MPC:
    """`planner`, in `view`."""

    planner: Any
    view: View

    @staticmethod
    def of(plant: VectorEnv, planner: Any, parts: Parts | None = None, **options: Any) -> "MPC":
        """That looks ahead in `plant` itself, or in an exact simulator of it, made by `sims.names.make` with `options`
        and judged by `parts`, which in JAX-native environments are the learner. Raises `UsageError`."""
        if isinstance(plant, JaxVectorEnv):
            if options:
                raise UsageError(f"{plant.name} is planned in as it is: {', '.join(options)} cannot be changed")
            return MPC(planner, InPlant(plant))
        if not isinstance(plant, HostVectorEnv):
            raise UsageError(f"{plant.name} gives no snapshot of one environment: it cannot be rolled back to plan in")
        simulator = sims.make(plant.name, plant.spec.action_repeat, **options)
        if parts is None:
            return MPC(planner, InSimulator(plant, simulator))
        return MPC(planner, InSimulator(plant, judged_by(parts, simulator), proposed_by(parts, simulator)))

    @property
    def utd(self) -> float:
        return 0.0

    def seed_steps(self, spec: Spec) -> int:
        return 0

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return self.view.learner(spec, key)

    def memory(self, spec: Spec) -> Memory:
        """Raises `UsageError` where the planner looks beyond an episode's end."""
        length = spec.episode_length
        if length is not None and self.planner.horizon > length:
            raise UsageError(f"horizon is {self.planner.horizon} decisions, an episode has {length}")
        fresh = self.planner.init(spec.action_dim)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (spec.num_envs, *leaf.shape)), fresh)

    def act(
        self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Metrics]:
        memory, plan_keys, act_keys = _begin(self.planner, jnp.asarray(timestep.first), memory, key)
        memory, invalid = self.view.plan(self.planner, learner, timestep, memory, plan_keys)
        actions, memory = _act(self.planner, explore, memory, act_keys)
        return actions, memory, {"invalid_plans": jnp.sum(invalid)}

    def foretell(
        self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray
    ) -> tuple[Float32[Array, "horizon action"], Foretold]:
        """The plan of the first environment that `memory` holds, and what is to come of it."""
        planned = jax.vmap(self.planner.planned)(memory)[0]
        return planned, self.view.foretell(learner, timestep, planned, key)

    def learn(self, learner: Learner, replay: Any, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        return learner, {}


@partial(jax.jit, static_argnums=0)
def _begin(planner: Any, first: Bool[Array, "env"], memories: Memory, key: PRNGKeyArray) -> tuple[Memory, Array, Array]:
    """Memories, fresh where an episode begins; keys to plan and keys to act, one an environment."""

    def begun(first: Array, memory: Memory, fresh: Memory) -> Memory:
        return where_first(first, fresh, memory)

    action_dim = jax.eval_shape(jax.vmap(planner.planned), memories).shape[-1]
    plan_keys, act_keys = (jax.random.split(half, first.shape[0]) for half in jax.random.split(key))
    return jax.vmap(begun, (0, 0, None))(first, memories, planner.init(action_dim)), plan_keys, act_keys


@partial(jax.jit, static_argnums=(0, 1, 2))
def _plan_each(
    planner: Any, model: Model, env: JaxEnv, parts: Learner, states: Any, memories: Memory, keys: Array
) -> Planned:
    model = compose(model, parts, env.observe) if parts else model
    return jax.vmap(partial(plan, planner, model))(states, memories, keys)


@partial(jax.jit, static_argnums=(0, 1))
def _act(planner: Any, explore: bool, memories: Memory, keys: Array) -> tuple[Float32[Array, "env action"], Memory]:
    """First actions, of which planners that must know what is executed are told."""
    actions = jax.vmap(lambda memory, key: planner.act(memory, explore, key))(memories, keys)
    executed = getattr(planner, "executed", None)
    return actions, memories if executed is None else jax.vmap(executed)(memories, actions)


@partial(jax.jit, static_argnums=(0, 1))
def _unrolled(model: Model, env: JaxEnv, parts: Learner, state: Any, actions: Array, key: PRNGKeyArray) -> Foretold:
    model = compose(model, parts, env.observe) if parts else model
    return _unroll(model, env.observe, state, actions, key)


def _unroll(model: Model, observe: Any, state: Any, actions: Array, key: PRNGKeyArray) -> Foretold:
    """Rewards, and what is observed where `observe` says it of a state."""

    def forward(state: Any, action: Array) -> tuple[Any, Foretold]:
        state, reward, _ = model.step(state, action, key)
        return state, {"reward": reward} | ({} if observe is None else {"obs": observe(state)})

    return jax.lax.scan(forward, state, actions)[1]
