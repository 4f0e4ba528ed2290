"""The one formula: what a sequence of actions returns in anything that can be stepped (DESIGN, section 1)."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

UNROLLED = 5  # steps of a look ahead that are compiled into one stretch: all of them would take minutes to compile
State = Any  # a pytree; its meaning belongs to the model


class Model(eqx.Module):
    """Anything one can look ahead in. Functions of ONE unbatched state, traced by JAX; `vmap` is the caller's."""

    @abstractmethod
    def step(
        self, state: State, action: Float32[Array, "action"], key: PRNGKeyArray
    ) -> tuple[State, Float32[Array, ""], Float32[Array, ""]]:
        """(next state, reward, discount); the discount is 0 where the episode has terminated."""

    def earned(
        self, state: State, action: Float32[Array, "action"], after: State, key: PRNGKeyArray
    ) -> Float32[Array, ""]:
        """The reward of a transition whose outcome is known. Here the step's own, for rewards of state and action."""
        del after
        return self.step(state, action, key)[1]

    def value(self, state: State, key: PRNGKeyArray) -> Float32[Array, ""]:
        """What lies beyond the horizon."""
        del state, key
        return jnp.zeros(())

    def prior(self, state: State, key: PRNGKeyArray) -> Float32[Array, "action"] | None:
        """What a policy would do here; None where there is no policy."""
        del state, key
        return None

    def depths(self, horizon: int) -> Float32[Array, "horizon"] | None:
        """How much the return counts that is cut after 1, 2, .. `horizon` steps, with the value there; None: only the
        last does."""
        del horizon
        return None


class Repeated(Model):
    """`model`, with every action done `times` times: a step is a decision. Nothing is earned after the end."""

    model: Model
    times: int = eqx.field(static=True)

    def step(
        self, state: State, action: Float32[Array, "action"], key: PRNGKeyArray
    ) -> tuple[State, Float32[Array, ""], Float32[Array, ""]]:
        total, discount = jnp.zeros(()), jnp.ones(())
        for step_key in jax.random.split(key, self.times):
            state, reward, step_discount = self.model.step(state, action, step_key)
            total = total + discount * reward
            discount = discount * step_discount
        return state, total, discount

    def value(self, state: State, key: PRNGKeyArray) -> Float32[Array, ""]:
        return self.model.value(state, key)

    def prior(self, state: State, key: PRNGKeyArray) -> Float32[Array, "action"] | None:
        return self.model.prior(state, key)

    def depths(self, horizon: int) -> Float32[Array, "horizon"] | None:
        return self.model.depths(horizon)


def returns(
    model: Model, state: State, actions: Float32[Array, "horizon action"], key: PRNGKeyArray
) -> Float32[Array, ""]:
    """G = sum_{t<H} discount_t R(s_t, a_t) + discount_H V(s_H), with discount_t the product of the step discounts; or
    the mean of such sums over the depths H that count, by `Model.depths`.

    Candidates scored with the same `key` share their random numbers, so that they differ by their actions alone.
    """
    keys, weights = jax.random.split(key, actions.shape[0] + 1), model.depths(actions.shape[0])

    def step(
        carry: tuple[State, Array, Array], at: tuple[Array, Array]
    ) -> tuple[tuple[State, Array, Array], Array | None]:
        state, total, discount = carry
        state, reward, step_discount = model.step(state, *at)
        total, discount = total + discount * reward, discount * step_discount
        cut = None if weights is None else total + discount * model.value(state, keys[-1])
        return (state, total, discount), cut

    begin, unroll = (state, jnp.zeros(()), jnp.ones(())), min(UNROLLED, actions.shape[0])
    (state, total, discount), cuts = jax.lax.scan(step, begin, (actions, keys[:-1]), unroll=unroll)
    if weights is not None and cuts is not None:
        return jnp.dot(weights, cuts)
    return total + discount * model.value(state, keys[-1])


def proposals(
    model: Model, state: State, horizon: int, number: int, key: PRNGKeyArray
) -> Float32[Array, "number horizon action"] | None:
    """`number` action sequences of the model's own prior, rolled out in the model; None where it has no prior."""

    if number == 0 or model.prior(state, key) is None:
        return None

    def follow(now: State, keys: Array) -> tuple[State, Float32[Array, "action"]]:
        action = model.prior(now, keys[0])
        assert action is not None
        return model.step(now, action, keys[1])[0], action

    def rollout(key: PRNGKeyArray) -> Float32[Array, "horizon action"]:
        return jax.lax.scan(follow, state, jax.random.split(key, (horizon, 2)), unroll=min(UNROLLED, horizon))[1]

    return jax.vmap(rollout)(jax.random.split(key, number))
