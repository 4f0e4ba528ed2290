"""One model of exchangeable parts: dynamics, reward, continuation, value and policy, each learned, true or missing.

What moves the state is the `body`: the members of learned dynamics, or an environment that is a model. Every other part
sees what is observed of a state, so that it does not matter which of them it stands beside:

    next state      the body
    reward          the part's, else the body's                          (DESIGN, section 1: R)
    going on        the part's probability, which enters the discount    (else where the body terminates)
    beyond          the value's, discounted as it was learned            (V; nothing without one)
    proposals       the policy's                                         (who chooses a; none without one)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.model import Model, State
from foreplan.worlds.ensemble import Action, EnsembleWorld, Member, Obs, Scalar
from foreplan.worlds.foresight import Foresight
from foreplan.worlds.known import Known
from foreplan.worlds.value import Beyond


class Parts(eqx.Module):
    """Those that are given; what is missing is None. `policy` has `act(obs, key, explore) -> action`."""

    dynamics: EnsembleWorld | None = None
    reward: EnsembleWorld | None = None
    continuation: EnsembleWorld | None = None
    value: Beyond | None = None
    policy: Any = None

    @property
    def discount(self) -> Scalar:
        """Of a decision: what the value was learned with; 1 without one."""
        return jnp.ones(()) if self.value is None else self.value.discount


def itself(state: State) -> State:
    """What is seen of the state of learned dynamics."""
    return state


class Composed(Model):
    """`reward` and `continuation` are the elites of their ensembles, stacked: their mean counts."""

    body: Model
    reward: Member | None
    continuation: Member | None
    beyond: Beyond | None
    policy: Any
    discount: Scalar
    observe: Callable[[State], Obs] = eqx.field(static=True, default=itself)

    def step(self, state: State, action: Action, key: PRNGKeyArray) -> tuple[State, Scalar, Scalar]:
        after, reward, going_on = self.body.step(state, action, key)
        if self.reward is not None:
            reward = self.earned(state, action, after, key)
        if self.continuation is not None:
            seen = self.observe(state), action, self.observe(after)
            going_on = agreed(self.continuation, lambda member: member.going_on(*seen))
        return after, reward, self.discount * going_on

    def earned(self, state: State, action: Action, after: State, key: PRNGKeyArray) -> Scalar:
        if self.reward is None:
            return self.body.earned(state, action, after, key)
        seen = self.observe(state), action, self.observe(after)
        return agreed(self.reward, lambda member: member.reward(*seen))

    def value(self, state: State, key: PRNGKeyArray) -> Scalar:
        del key
        return jnp.zeros(()) if self.beyond is None else self.beyond(self.observe(state))

    def prior(self, state: State, key: PRNGKeyArray) -> Float32[Array, "action"] | None:
        return None if self.policy is None else self.policy.act(self.observe(state), key, True)


def compose(body: Model, parts: Parts, observe: Callable[[State], Obs] = itself) -> Composed:
    """`body` with the parts that are given, their dynamics apart."""
    reward, continuation = (
        None if world is None else world.members(world.elites) for world in (parts.reward, parts.continuation)
    )
    return Composed(body, reward, continuation, parts.value, parts.policy, parts.discount, observe)


def compose_members(parts: Parts, reward: Known | None = None, effort: float = 0.0) -> Composed:
    """The elites of the learned dynamics, each with all other parts, of the value with one head: stacked, leaves are
    [elites, ...]. A function that is given stands in for the reward; `effort` is as in `Foresight`."""
    assert parts.dynamics is not None, "these parts have no dynamics"
    elites, number = parts.dynamics.members(parts.dynamics.elites), len(parts.dynamics.elites)
    values = None if parts.value is None else parts.value.each(number)

    def one(member: Member, value: Beyond | None) -> Composed:
        return compose(Foresight(member, reward, effort), replace(parts, value=value))

    return eqx.filter_vmap(one)(elites, values)


def agreed(members: Member, ask: Callable[[Member], Scalar]) -> Scalar:
    """The mean of what stacked members answer. One product a member: see `nn.nets.Ensemble`."""
    number = jax.tree.leaves(members)[0].shape[0]
    return jnp.mean(jnp.stack([ask(jax.tree.map(lambda leaf, i=i: leaf[i], members)) for i in range(number)]))
