"""Limits on actions that are narrower than [-1, 1], and on how fast they may change."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.planners.wrapper import Wrapper


class LimitedMemory(eqx.Module):
    planner: Any
    last: Float32[Array, "action"]  # the action that was executed before this plan


@dataclass(frozen=True)
class Limited(Wrapper):
    """`planner`, all of whose candidates keep the limits, from the last executed action on. `executed` must be told
    of every action that is executed."""

    low: float = -1.0
    high: float = 1.0
    rate: float = 2.0  # the largest change from one step to the next

    def __post_init__(self) -> None:
        if not (-1.0 <= self.low < self.high <= 1.0 and self.rate > 0.0):
            raise ValueError(f"-1 <= low < high <= 1 and rate > 0 must hold, not {self.low}, {self.high}, {self.rate}")

    def init(self, action_dim: int) -> LimitedMemory:
        rest = jnp.clip(jnp.zeros((action_dim,)), self.low, self.high)
        return LimitedMemory(self.planner.init(action_dim), rest)

    def shift(self, memory: LimitedMemory) -> LimitedMemory:
        return LimitedMemory(self.planner.shift(memory.planner), memory.last)

    def ask(
        self, memory: LimitedMemory, proposals: Array | None, key: PRNGKeyArray, round: int = 0
    ) -> Float32[Array, "n horizon action"]:
        actions = self.planner.ask(memory.planner, proposals, key, round)
        return jax.vmap(lambda plan: self.limit(memory.last, plan))(actions)

    def tell(
        self, memory: LimitedMemory, actions: Float32[Array, "n horizon action"], returns: Float32[Array, "n"]
    ) -> LimitedMemory:
        return LimitedMemory(self.planner.tell(memory.planner, actions, returns), memory.last)

    def planned(self, memory: LimitedMemory) -> Float32[Array, "horizon action"]:
        return self.limit(memory.last, self.planner.planned(memory.planner))

    def act(self, memory: LimitedMemory, explore: bool, key: PRNGKeyArray) -> Float32[Array, "action"]:
        return self.limit(memory.last, self.planner.act(memory.planner, explore, key)[None])[0]

    def executed(self, memory: LimitedMemory, action: Float32[Array, "action"]) -> LimitedMemory:
        return LimitedMemory(memory.planner, action)

    def limit(
        self, last: Float32[Array, "action"], plan: Float32[Array, "horizon action"]
    ) -> Float32[Array, "horizon action"]:
        """The plan, each action moved to the nearest one that may follow the one before it."""

        def follow(last: Array, action: Array) -> tuple[Array, Array]:
            action = jnp.clip(jnp.clip(action, last - self.rate, last + self.rate), self.low, self.high)
            return action, action

        return jax.lax.scan(follow, last, plan)[1]
