"""Derivatives along a plan by finite differences, where the world can only be stepped: every perturbation of every step
is one candidate of a single call.

Central differences of the states and rewards; second derivatives of the reward from the same calls, and from one more
for each pair of numbers, if there are not too many of them.
"""

import itertools
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from foreplan.planners.ilqr import Expansion

MOST = 32  # numbers of state and action, up to which second derivatives are not taken for diagonal


@runtime_checkable
class Steps(Protocol):
    """A world that can be stepped from many states at once: rows are states [n, state], changes are [n, dim]."""

    start: np.ndarray  # [state]

    @property
    def dim(self) -> int: ...
    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...  # rows after, rewards
    def moved(self, rows: np.ndarray, changes: np.ndarray) -> np.ndarray: ...
    def difference(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray: ...


def perturbations(number: int, size: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """([k, number], pairs): nothing, each number up, each down, and each of the pairs up."""
    pairs = list(itertools.combinations(range(number), 2)) if number <= MOST else []
    each = size * np.eye(number)
    both = np.array([each[i] + each[j] for i, j in pairs]).reshape(len(pairs), number)
    return np.concatenate([np.zeros((1, number)), each, -each, both]), pairs


def expand(steps: Steps, rows: np.ndarray, plan: np.ndarray, size: float) -> Expansion:
    """Along `plan` [horizon, action], from the states `rows` [horizon, state] that it passes through. An action at its
    limit is moved inwards by `size`, so that it can be disturbed both ways."""
    horizon, dim = len(plan), steps.dim
    number = dim + plan.shape[1]
    changes, pairs = perturbations(number, size)
    k = len(changes)
    inside = np.clip(plan, -1.0 + size, 1.0 - size)
    given = np.repeat(inside, k, axis=0) + np.tile(changes[:, dim:], (horizon, 1))
    begun = steps.moved(np.repeat(rows, k, axis=0), np.tile(changes[:, :dim], (horizon, 1)))
    after, rewards = steps.step(begun, given)
    centre = np.repeat(after.reshape(horizon, k, -1)[:, 0], k, axis=0)
    led = steps.difference(centre, after).reshape(horizon, k, dim)
    cost = -np.where(np.isfinite(rewards), rewards, 0.0).reshape(horizon, k)
    up, down = slice(1, 1 + number), slice(1 + number, 1 + 2 * number)
    jacobian = np.swapaxes(led[:, up] - led[:, down], 1, 2) / (2.0 * size)
    slope = (cost[:, up] - cost[:, down]) / (2.0 * size)
    curve = np.zeros((horizon, number, number))
    curve[:, range(number), range(number)] = cost[:, up] - 2.0 * cost[:, :1] + cost[:, down]
    for at, (i, j) in enumerate(pairs, start=1 + 2 * number):
        curve[:, i, j] = curve[:, j, i] = cost[:, at] - cost[:, 1 + i] - cost[:, 1 + j] + cost[:, 0]
    curve = convex(curve / size**2)
    found = (
        jacobian[:, :, :dim],
        jacobian[:, :, dim:],
        slope[:, :dim],
        slope[:, dim:],
        curve[:, :dim, :dim],
        curve[:, dim:, :dim],
        curve[:, dim:, dim:],
    )
    return Expansion(*(jnp.asarray(array, jnp.float32) for array in found))


def convex(curves: np.ndarray) -> np.ndarray:
    """The nearest matrices [n, x, x] without negative eigenvalues."""
    size, direction = np.linalg.eigh(curves)
    return direction * np.maximum(size, 0.0)[:, None] @ np.swapaxes(direction, 1, 2)


def follow(
    steps: Steps, rows: np.ndarray, plan: np.ndarray, changes: np.ndarray, gains: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows [k, horizon + 1, state], plans [k, horizon, action], costs [k]) of changes of each of `sizes` [k], each
    action answering to how far the state has left the old one's `rows` [horizon + 1, state]."""
    now = np.repeat(steps.start[None], len(sizes), axis=0)
    passed, done, cost = [now], [], np.zeros(len(sizes))
    for t in range(len(plan)):
        away = steps.difference(np.repeat(rows[t : t + 1], len(sizes), axis=0), now)
        action = np.clip(plan[t] + sizes[:, None] * changes[t] + away @ gains[t].T, -1.0, 1.0)
        now, reward = steps.step(now, action)
        cost = cost - reward
        passed.append(now)
        done.append(action)
    return np.stack(passed, axis=1), np.stack(done, axis=1), cost
