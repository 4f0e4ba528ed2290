"""Plans as splines through a few knots: fewer numbers to search, and smooth.

A knot lies on a step of the plan, so that a spline's knots can be read off its actions. Splines are indexed by time: a
plan moves on by one *step*, and new knots are read off the old spline, at their own times (PITFALLS 38).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners import checks
from foreplan.planners.wrapper import Wrapper

Order = Literal["zero", "linear", "cubic"]


@lru_cache(maxsize=64)
def places(horizon: int, knots: int) -> tuple[int, ...]:
    """The steps on which knots lie: the first, the last, and others evenly between."""
    if not 2 <= knots <= horizon:
        raise ValueError(f"a plan of {horizon} steps has from 2 to {horizon} knots, not {knots}")
    return tuple(int(step) for step in np.round(np.linspace(0, horizon - 1, knots)))


@lru_cache(maxsize=64)
def weights(horizon: int, knots: int, order: Order, later: float = 0.0) -> np.ndarray:
    """[horizon, knots]: what each knot contributes to the actions `later` steps after each step. Before the first knot
    and beyond the last one a spline is constant."""
    at = np.array(places(horizon, knots), float)
    time = np.clip(np.arange(horizon) + later, at[0], at[-1])
    left = np.clip(np.searchsorted(at, time, side="right") - 1, 0, knots - 2)
    eye, width = np.eye(knots), at[left + 1] - at[left]
    share = ((time - at[left]) / width)[:, None]
    if order == "zero":
        return eye[np.where(time >= at[-1], knots - 1, left)]
    if order == "linear":
        return (1.0 - share) * eye[left] + share * eye[left + 1]
    slope = np.gradient(eye, at, axis=0)  # at each knot, of the neighbours
    slopes = width[:, None] * slope[left], width[:, None] * slope[left + 1]
    cubic = share**2 * (3.0 - 2.0 * share)
    flat = (1.0 - cubic) * eye[left] + cubic * eye[left + 1]
    return flat + share * (1.0 - share) ** 2 * slopes[0] - share**2 * (1.0 - share) * slopes[1]


@dataclass(frozen=True)
class Splined(Wrapper):
    """`planner`, searching for knots instead of actions. Its own horizon is the number of knots."""

    horizon: int = 30
    order: Order = "cubic"

    def __post_init__(self) -> None:
        places(self.horizon, self.planner.horizon)
        checks.one_of("order", self.order, ("zero", "linear", "cubic"))

    def init(self, action_dim: int) -> Any:
        return self.planner.init(action_dim)

    def shift(self, memory: Any) -> Any:
        return self.planner.shift(memory, self.forward)

    def forward(self, knots: Float32[Array, "*any knots action"]) -> Float32[Array, "*any knots action"]:
        later = weights(self.horizon, self.planner.horizon, self.order, 1.0)[list(self.places)]
        return jnp.asarray(later, jnp.float32) @ knots

    @property
    def places(self) -> tuple[int, ...]:
        return places(self.horizon, self.planner.horizon)

    def ask(
        self, memory: Any, proposals: Float32[Array, "p horizon action"] | None, key: PRNGKeyArray, round: int = 0
    ) -> Float32[Array, "n horizon action"]:
        proposals = None if proposals is None else proposals[:, jnp.array(self.places)]
        return self.through(self.planner.ask(memory, proposals, key, round))

    def through(self, knots: Float32[Array, "*any knots action"]) -> Float32[Array, "*any horizon action"]:
        """The actions of splines through `knots`."""
        spline = jnp.asarray(weights(self.horizon, self.planner.horizon, self.order), jnp.float32)
        return jnp.clip(spline @ knots, -1.0, 1.0)

    def tell(self, memory: Any, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]) -> Any:
        return self.planner.tell(memory, actions[:, jnp.array(self.places)], returns)

    def planned(self, memory: Any) -> Float32[Array, "horizon action"]:
        return self.through(self.planner.planned(memory))

    def act(self, memory: Any, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        """The first knot lies on the first step."""
        return self.planner.act(memory, explore, key)
