"""The iterative linear quadratic regulator with limits on the actions (Tassa, Mansard, Todorov 2014, "Control-Limited
Differential Dynamic Programming"), in a model that can be differentiated, or by finite differences in a simulator.

 1. linear dynamics and quadratic rewards along the plan           `expand`, or `differences.expand`
 2. backwards in time: the best change of each action within its limits, and how it should answer to the state
                                                                               `backward`, `best_within`
 3. forwards: of several step lengths the one that returns most; where none improves, smaller steps next time
                                                                               `improve`

Rewards need not be concave: their curvature is made so (negative eigenvalues are taken for none).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from foreplan.core.model import Model, State
from foreplan.planners import checks
from foreplan.planners.warm import Forward, disturbed, held

STEPS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01)


class ILQRMemory(eqx.Module):
    best: Float32[Array, "horizon action"]
    damping: Float32[Array, ""]


class Expansion(NamedTuple):
    """Along a plan, leaves [horizon, ...]: the next state's derivatives, and the cost's first and second ones."""

    a: Array  # of the next state by the state
    b: Array  # of the next state by the action
    cost_x: Array
    cost_u: Array
    cost_xx: Array
    cost_ux: Array
    cost_uu: Array


@dataclass(frozen=True)
class ILQR:
    """A model's state must be a tree of floats. Rewards are planned with without discount."""

    horizon: int = 30
    iterations: int = 10
    damping: float = 1e-3  # added to the curvature in the actions; grows tenfold where a step fails
    num_proposals: int = 0
    explore_std: float = 0.1
    difference: float = 1e-4  # by which states and actions are disturbed in a simulator

    def __post_init__(self) -> None:
        checks.at_least_one(horizon=self.horizon, iterations=self.iterations)
        checks.positive(damping=self.damping, difference=self.difference)

    def init(self, action_dim: int) -> ILQRMemory:
        return ILQRMemory(jnp.zeros((self.horizon, action_dim)), jnp.float32(self.damping))

    def shift(self, memory: ILQRMemory, forward: Forward = held) -> ILQRMemory:
        return ILQRMemory(forward(memory.best), jnp.float32(self.damping))

    def plan(
        self, model: Model, state: State, memory: ILQRMemory, key: PRNGKeyArray
    ) -> tuple[ILQRMemory, Int32[Array, ""]]:
        """(memory, step lengths that were invalid)."""
        start, unravel = ravel_pytree(state)

        def step(x: Array, u: Array) -> tuple[Array, Array]:
            after, reward, _ = model.step(unravel(x), u, key)
            return ravel_pytree(after)[0], -reward

        def last(x: Array) -> Array:
            return -model.value(unravel(x), key)

        def improve(carry, _):  # type: ignore[no-untyped-def]
            plan, damping, invalid = carry
            states, cost = rollout(step, last, start, plan)
            end = jax.grad(last)(states[-1]), convex(jax.jacrev(jax.grad(last))(states[-1]))
            gains = backward(expand(step, states[:-1], plan), end, plan, damping)
            tried, costs = jax.vmap(lambda size: follow(step, last, states, plan, gains, size))(jnp.array(STEPS))
            valid = jnp.isfinite(costs)
            index = jnp.argmin(jnp.where(valid, costs, jnp.inf))
            better = valid[index] & (costs[index] < cost)
            plan = jnp.where(better, tried[index], plan)
            damping = jnp.clip(damping * jnp.where(better, 0.3, 10.0), 1e-6, 1e6)
            return (plan, damping, invalid + jnp.sum(~valid, dtype=jnp.int32)), None

        memory = self.shift(memory)
        carry = memory.best, memory.damping, jnp.zeros((), jnp.int32)
        (plan, damping, invalid), _ = jax.lax.scan(improve, carry, length=self.iterations)
        return ILQRMemory(plan, damping), invalid

    def plan_in_steps(self, steps: Any, memory: ILQRMemory) -> tuple[ILQRMemory, int]:
        """`plan` in a world that can only be stepped, see `differences.Steps`; a loop on the host."""
        from foreplan.planners import differences

        memory = self.shift(memory)
        best, damping, invalid = np.asarray(memory.best), float(memory.damping), 0
        nothing = np.zeros(best.shape), np.zeros((*best.shape, steps.dim)), np.zeros(1)
        still = np.repeat(steps.start[None], len(best) + 1, axis=0)
        (rows,), (plan,), (cost,) = differences.follow(steps, still, best, *nothing)
        end = jnp.zeros(steps.dim), jnp.zeros((steps.dim, steps.dim))
        for _ in range(self.iterations):
            expansion = differences.expand(steps, rows[:-1], plan, self.difference)
            gains = _backward(expansion, end, jnp.asarray(plan, jnp.float32), jnp.float32(damping))
            changes, answers = (np.asarray(array, np.float64) for array in gains)
            tried = differences.follow(steps, rows, plan, changes, answers, np.array(STEPS))
            invalid += int(np.sum(~np.isfinite(tried[2])))
            index = int(np.argmin(np.where(np.isfinite(tried[2]), tried[2], np.inf)))
            better = bool(tried[2][index] < cost)
            if better:
                rows, plan, cost = (array[index] for array in tried)
            damping = float(np.clip(damping * (0.3 if better else 10.0), 1e-6, 1e6))
        return ILQRMemory(jnp.asarray(plan, jnp.float32), jnp.float32(damping)), invalid

    def planned(self, memory: ILQRMemory) -> Float32[Array, "horizon action"]:
        return memory.best

    def act(self, memory: ILQRMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        return disturbed(memory.best[0], jnp.float32(self.explore_std), key) if explore else memory.best[0]


def rollout(step, last, start: Array, plan: Array) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
    """(states [horizon + 1, state], cost) of a plan."""

    def forward(x: Array, u: Array) -> tuple[Array, tuple[Array, Array]]:
        after, cost = step(x, u)
        return after, (after, cost)

    end, (states, costs) = jax.lax.scan(forward, start, plan)
    return jnp.concatenate([start[None], states]), jnp.sum(costs) + last(end)


def follow(step, last, states: Array, plan: Array, gains: tuple[Array, Array], size: Array):  # type: ignore[no-untyped-def]
    """(plan, cost) of a change of this `size`, each action answering to how far the state has left the old one."""

    def forward(x: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        old, u, change, gain = at
        u = jnp.clip(u + size * change + gain @ (x - old), -1.0, 1.0)
        after, cost = step(x, u)
        return after, (u, cost)

    end, (tried, costs) = jax.lax.scan(forward, states[0], (states[:-1], plan, *gains))
    return tried, jnp.sum(costs) + last(end)


def expand(step, states: Array, plan: Array) -> Expansion:  # type: ignore[no-untyped-def]
    """Derivatives along a plan, all at once."""
    n = states.shape[1]

    def at(x: Array, u: Array) -> Expansion:
        a, b = jax.jacrev(lambda x, u: step(x, u)[0], (0, 1))(x, u)

        def cost(z: Array) -> Array:
            return step(z[:n], z[n:])[1]

        z = jnp.concatenate([x, u])
        slope, curve = jax.grad(cost)(z), convex(jax.jacrev(jax.grad(cost))(z))
        return Expansion(a, b, slope[:n], slope[n:], curve[:n, :n], curve[n:, :n], curve[n:, n:])

    return jax.vmap(at)(states, plan)


def backward(
    expansion: Expansion, end: tuple[Array, Array], plan: Array, damping: Array
) -> tuple[Float32[Array, "horizon action"], Float32[Array, "horizon action state"]]:
    """Changes of the actions, and gains. `end` has the first and second derivatives of the cost beyond the horizon."""

    def before(carry: tuple[Array, Array], at: tuple[Expansion, Array]) -> tuple:
        value_x, value_xx = carry
        e, u = at
        q_x, q_u = e.cost_x + e.a.T @ value_x, e.cost_u + e.b.T @ value_x
        q_xx = e.cost_xx + e.a.T @ value_xx @ e.a
        q_ux = e.cost_ux + e.b.T @ value_xx @ e.a
        q_uu = e.cost_uu + e.b.T @ value_xx @ e.b
        change, free = best_within(q_uu + damping * jnp.eye(u.shape[0]), q_u, -1.0 - u, 1.0 - u)
        curve = jnp.where(free[:, None] & free[None], q_uu, 0.0) + jnp.diag(jnp.where(free, damping, 1.0))
        gain = -jnp.linalg.solve(curve, jnp.where(free[:, None], q_ux, 0.0))
        value_x = q_x + gain.T @ q_uu @ change + gain.T @ q_u + q_ux.T @ change
        value_xx = q_xx + gain.T @ q_uu @ gain + gain.T @ q_ux + q_ux.T @ gain
        return (value_x, 0.5 * (value_xx + value_xx.T)), (change, gain)

    return jax.lax.scan(before, end, (expansion, plan), reverse=True)[1]


_backward = jax.jit(backward)


def best_within(curve: Array, slope: Array, low: Array, high: Array, rounds: int = 8) -> tuple[Array, Array]:
    """(x, free): the x in [low, high] that makes x curve x / 2 + slope x least, by projected Newton steps, and which
    of its numbers are not held at a limit."""

    def held_at_limit(x: Array) -> Array:
        downhill = -(curve @ x + slope)
        return ((x <= low) & (downhill < 0.0)) | ((x >= high) & (downhill > 0.0))

    def newton(x: Array, _: None) -> tuple[Array, None]:
        free = ~held_at_limit(x)
        reduced = jnp.where(free[:, None] & free[None], curve, 0.0) + jnp.diag(jnp.where(free, 0.0, 1.0))
        step = -jnp.linalg.solve(reduced, jnp.where(free, curve @ x + slope, 0.0))
        return jnp.clip(x + step, low, high), None

    x, _ = jax.lax.scan(newton, jnp.clip(jnp.zeros_like(slope), low, high), length=rounds)
    return x, ~held_at_limit(x)


def convex(curve: Array) -> Array:
    """The nearest matrix without negative eigenvalues."""
    size, direction = jnp.linalg.eigh(0.5 * (curve + curve.T))
    return (direction * jnp.maximum(size, 0.0)[None]) @ direction.T
