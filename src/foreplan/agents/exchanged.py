"""Planning as an agent does, with part after part of its model exchanged for the truth: what does each part cost?

A candidate a_0 .. a_{H-1} returns, as everywhere (DESIGN, section 1),

    G = sum_{t<H} discount_t R(s_t, a_t) + discount_H V(s_H),

or the mean of such sums over the depths that the agent cuts its plans at.

 1. states and ends are the true ones: candidates are stepped in the environment       `Exchanged.follow`
 2. R is the agent's, of what is truly observed, or the true reward                    `rewards`
 3. V is the agent's, of what is truly observed, or what its policy truly earns from   `values`, `Exchanged.go_on`
    there on in `beyond` more decisions; 0 for an agent that has no policy
 4. the planner never knows                                                            `Exchanged.plan`
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.learning import over_batch
from foreplan.core.model import Model
from foreplan.core.types import Learner, LooksAhead, Memory, Metrics, Spec, TimeStep
from foreplan.planners.risk import Draws, Members
from foreplan.planners.sampling import plan_on_host
from foreplan.sims.truth import States, Truth


class Followed(NamedTuple):
    """What truly became of plans; nothing after an end counts."""

    obs: np.ndarray  # [n, horizon + 1, obs]
    reward: np.ndarray  # [n, horizon]; minus infinity where the simulation diverged
    going_on: np.ndarray  # [n, horizon]; 0 where the episode has terminated
    states: list[States]  # after 1, 2, .. horizon decisions


class Traits(NamedTuple):
    """What an agent's model has."""

    policy: bool  # that proposes actions
    value: bool  # beyond the horizon
    discount: float  # of what goes on; 1 where there is none


@dataclass(frozen=True)
class Exchanged:
    """A `View` for `agents.mpc.MPC`: looks ahead in `truth`, in which also the parts named in `true` are true."""

    agent: LooksAhead
    truth: Truth
    traits: Traits
    true: tuple[str, ...] = ()  # of "reward", "value"
    beyond: int = 10  # decisions beyond the horizon, where the value is true

    def learner(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return self.agent.init(spec, key)

    def plan(
        self, planner: Any, learner: Learner, timestep: TimeStep, memories: Memory, keys: Array
    ) -> tuple[Memory, Array]:
        """One environment after the other; with the same random numbers as `agents.mpc.InAgent`."""
        done = []
        for index, obs in enumerate(np.asarray(timestep.obs)):
            memory, key = jax.tree.map(lambda leaf, i=index: leaf[i], (memories, keys))
            _, plan_key = jax.random.split(key)
            offer_key, score_key, loop_key = jax.random.split(plan_key, 3)
            offered = self.offer(planner, learner, obs, index, offer_key)
            score = partial(self.score, learner, obs, index, score_key)
            done.append(plan_on_host(planner, score, memory, loop_key, offered))
        found, invalid = zip(*done, strict=True)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found), jnp.array(invalid, jnp.int32)

    def offer(self, planner: Any, learner: Learner, obs: np.ndarray, index: int, key: PRNGKeyArray) -> Array | None:
        """Candidates of the agent's policy, truly followed; None where it has none."""
        number = planner.num_proposals
        if number == 0 or not self.traits.policy:
            return None
        keys = jax.random.split(key, (planner.horizon, number))
        states, begin = self.truth.at(index, number), np.repeat(obs[None], number, axis=0)
        return jnp.asarray(self.go_on(learner, states, begin, keys)[1])

    def score(
        self, learner: Learner, obs: np.ndarray, index: int, key: PRNGKeyArray, actions: np.ndarray
    ) -> np.ndarray:
        """Returns [n] of `actions` [n, horizon, action] from where environment `index` stands, which sees `obs`."""
        seen = self.follow(obs, index, actions)
        reached = np.cumprod(self.traits.discount * seen.going_on, axis=1)
        before = np.concatenate([np.ones_like(reached[:, :1]), reached[:, :-1]], axis=1)
        reward = seen.reward[None] if "reward" in self.true else rewards(self.agent, learner, seen.obs, actions, key)
        earned, totals = np.cumsum(before * np.asarray(reward), axis=2), np.zeros((1, len(actions)))
        counts = np.asarray(depths(self.agent, learner, obs, actions.shape[1]))
        for last in map(int, np.flatnonzero(counts)):  # one, unless the agent averages over depths
            true = self.true_values(learner, seen, last, key)[None] if "value" in self.true else None
            worth = values(self.agent, learner, seen.obs[:, last + 1], key) if true is None else true
            totals = totals + counts[last] * (earned[:, :, last] + reached[:, last] * np.asarray(worth))
        totals = np.where(np.isfinite(seen.reward).all(axis=1), totals, -np.inf).astype(np.float32)
        return np.asarray(over_members(self.agent, learner, obs, totals))

    def follow(self, obs: np.ndarray, index: int, actions: np.ndarray) -> Followed:
        """What truly becomes of `actions` [n, horizon, action]."""
        number, horizon = actions.shape[:2]
        begin, seen = self.truth.at(index, number), [np.repeat(obs[None], number, axis=0)]
        states = [begin]
        reward, going_on = np.zeros((number, horizon)), np.ones((number, horizon))
        for t in range(horizon):
            after, obs, reward[:, t], going_on[:, t] = self.truth.step(states[-1], actions[:, t], seen[-1])
            states.append(after)
            seen.append(obs)
        return Followed(np.stack(seen, axis=1), reward, going_on, states[1:])

    def true_values(self, learner: Learner, seen: Followed, last: int, key: PRNGKeyArray) -> np.ndarray:
        """[n], of where the decision `last` has led: by common random numbers."""
        number, obs = len(seen.obs), seen.obs[:, last + 1]
        if not self.traits.policy:
            return np.zeros(number)
        keys = jnp.broadcast_to(jax.random.split(key, self.beyond)[:, None], (self.beyond, number))
        return self.go_on(learner, seen.states[last], obs, keys)[0]

    def go_on(self, learner: Learner, states: States, obs: np.ndarray, keys: Array) -> tuple[np.ndarray, np.ndarray]:
        """(returns [n], actions [n, decision, action]) of the agent's policy; `keys` are [decision, n]."""
        total, reached, actions = np.zeros(len(obs)), np.ones(len(obs)), []
        for decision in range(len(keys)):
            action = np.asarray(policy(self.agent, learner, obs, keys, np.int32(decision)))
            states, obs, reward, going_on = self.truth.step(states, action, obs)
            total += np.where(reached > 0.0, reached * reward, 0.0)
            reached = reached * self.traits.discount * going_on
            actions.append(action)
        return total, np.stack(actions, axis=1)

    def foretell(
        self, learner: Learner, timestep: TimeStep, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
    ) -> dict[str, Any]:
        seen = self.follow(np.asarray(timestep.obs[0]), 0, np.asarray(actions)[None])
        return {"reward": seen.reward[0], "obs": seen.obs[0, 1:]}


@dataclass(frozen=True)
class PolicyAlone:
    """Acts as the policy of `agent` would, without looking ahead. Its draws are those that planning is offered."""

    agent: LooksAhead
    utd: float = 0.0

    def seed_steps(self, spec: Spec) -> int:
        return 0

    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        return self.agent.init(spec, key)

    def memory(self, spec: Spec) -> Memory:
        return ()

    def act(
        self, learner: Learner, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], Memory, Metrics]:
        obs = jnp.asarray(timestep.obs)
        return policy(self.agent, learner, obs, jax.random.split(key, (1, len(obs))), np.int32(0)), memory, {}

    def learn(self, learner: Learner, replay: Any, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        return learner, {}


# ---------------------------------------------------------------------- an agent's parts, at what is truly observed
def single(model: Any) -> Model:
    """A model, or the one of several that offers proposals."""
    return model.first() if isinstance(model, Members | Draws) else model


def in_each(function: Callable[[Model], Array], model: Any) -> Float32[Array, "members *of"]:
    """`function` of each member of an ensemble, or of the only model that there is."""
    if isinstance(model, Members):
        return jax.lax.map(function, model.models)
    return function(single(model))[None]


def traits(agent: LooksAhead, learner: Learner, obs: Any) -> Traits:
    """Of the model in which the agent looks ahead where it sees `obs` [obs]."""
    obs, key = jnp.asarray(obs), jax.random.key(0)

    def offered(learner: Learner) -> Any:
        model, state = agent.look_ahead(learner, obs, key)
        return single(model).prior(state, key)

    model = single(eqx.filter_jit(lambda learner: agent.look_ahead(learner, obs, key)[0])(learner))
    model = getattr(model, "members", model)  # one that switches between members has what these have
    return Traits(
        policy=jax.eval_shape(offered, learner) is not None,
        value=type(model).value is not Model.value,
        discount=float(np.ravel(getattr(model, "discount", 1.0))[0]),
    )


@partial(jax.jit, static_argnums=0)
def policy(agent: LooksAhead, learner: Learner, obs: Any, keys: Array, decision: Any) -> Float32[Array, "n action"]:
    """What the policy does where `obs` [n, obs] is seen; `keys` are [decision, n]."""

    def act(obs: Array, key: PRNGKeyArray) -> Array:
        model, state = agent.look_ahead(learner, obs, jax.random.key(0))
        action = single(model).prior(state, key)
        assert action is not None
        return action

    return jax.vmap(act)(jnp.asarray(obs), keys[decision])


@partial(jax.jit, static_argnums=0)
def rewards(
    agent: LooksAhead, learner: Learner, obs: Any, actions: Any, key: PRNGKeyArray
) -> Float32[Array, "members n horizon"]:
    """What the agent believes that transitions earn: of `obs` [n, horizon + 1, obs] and `actions` [n, horizon, action],
    with common random numbers for all `n`."""
    obs, actions = jnp.asarray(obs), jnp.asarray(actions)
    keys = jnp.broadcast_to(jax.random.split(key, actions.shape[1])[None], actions.shape[:2])

    def of_one(model: Model) -> Array:
        return over_batch(model.earned)(before, actions, after, keys)

    states = over_batch(lambda seen: agent.look_ahead(learner, seen, key)[1])(obs)
    before, after = (jax.tree.map(lambda x, part=part: x[:, part], states) for part in (slice(-1), slice(1, None)))
    return in_each(of_one, agent.look_ahead(learner, obs[0, 0], key)[0])


@partial(jax.jit, static_argnums=0)
def values(agent: LooksAhead, learner: Learner, obs: Any, key: PRNGKeyArray) -> Float32[Array, "members n"]:
    """What the agent believes to lie beyond `obs` [n, obs], with common random numbers."""
    obs = jnp.asarray(obs)

    def of_one(model: Model) -> Array:
        return jax.vmap(lambda seen: model.value(agent.look_ahead(learner, seen, key)[1], key))(obs)

    return in_each(of_one, agent.look_ahead(learner, obs[0], key)[0])


@partial(jax.jit, static_argnums=(0, 3))
def depths(agent: LooksAhead, learner: Learner, obs: Any, horizon: int) -> Float32[Array, "horizon"]:
    """How much the return of a plan counts that is cut after 1, 2, .. `horizon` steps, as the agent has it."""
    model = single(agent.look_ahead(learner, jnp.asarray(obs), jax.random.key(0))[0])
    counts = model.depths(horizon)
    return jax.nn.one_hot(horizon - 1, horizon, dtype=jnp.float32) if counts is None else counts


@partial(jax.jit, static_argnums=0)
def over_members(agent: LooksAhead, learner: Learner, obs: Any, totals: Any) -> Float32[Array, "n"]:
    """One number of the returns [members, n], as the agent makes it."""
    risk: Callable[[Array], Array] | None = getattr(
        agent.look_ahead(learner, jnp.asarray(obs), jax.random.key(0))[0], "risk", None
    )
    totals = jnp.asarray(totals)
    return totals[0] if risk is None or totals.shape[0] == 1 else risk(totals)
