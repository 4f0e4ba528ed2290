"""Planning with parts that were fitted beforehand: nothing is learned any more (worlds/composed.py).

With dynamics among them, the parts are the world that is planned in: `Composite`. With behaviour cloned as its prior,
an ensemble, and a value on the return, that is the offline planning of MBOP (Argenson and Dulac-Arnold 2021,
"Model-Based Offline Planning"). Without dynamics they judge what a simulator foretells: `judged_by`, `proposed_by`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.spec import Snapshot
from foreplan.core.types import Spec
from foreplan.planners.risk import CVaR, Mean, MeanMinusDeviation, Members
from foreplan.sims.judged import Judged, follow
from foreplan.sims.mujoco import MujocoSimulator
from foreplan.worlds.composed import Parts, agreed, compose_members
from foreplan.worlds.ensemble import EnsembleWorld
from foreplan.worlds.known import known


@dataclass(frozen=True)
class Composite:
    """The elites of the dynamics, each with all other parts, as a model for any planner. Its learner is `Parts`."""

    reward: str = "learned"  # or a function of (obs, action, next obs), "module:function"
    risk: Mean | CVaR | MeanMinusDeviation = field(default_factory=Mean)

    def init(self, spec: Spec, key: PRNGKeyArray) -> Parts:
        return Parts()

    def look_ahead(
        self, learner: Parts, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Members, Float32[Array, "obs"]]:
        return Members(compose_members(learner, known(self.reward, "reward")), self.risk), obs


# ---------------------------------------------------------------------- beside a simulator of the host
def judged_by(parts: Parts, simulator: Any) -> Any:
    """The simulator, with reward, continuation and value in place of its own where they are given."""
    value = None if parts.value is None else _on_host(parts.value)
    discount = float(jax.device_get(parts.discount))
    reward, continuation = (
        None if world is None else _on_host(_mean(world, name))
        for world, name in ((parts.reward, "reward"), (parts.continuation, "going_on"))
    )
    if reward is None and continuation is None and isinstance(simulator, MujocoSimulator):  # a plan stays one call
        simulator.value_by(value, discount)
        return simulator
    given = any(part is not None for part in (reward, continuation, value))
    return Judged(simulator, reward, continuation, value, discount) if given else simulator


Offer = Callable[[Any, Snapshot, Any, PRNGKeyArray], Float32[Array, "n horizon action"] | None]


def proposed_by(parts: Parts, simulator: Any) -> Offer:
    """(planner, snapshot, obs there, key) -> what the policy would do in the simulator; None where nobody asks it."""
    act = jax.jit(jax.vmap(lambda obs, key: parts.policy.act(obs, key, True)))

    def offer(planner: Any, snapshot: Snapshot, obs: Any, key: PRNGKeyArray) -> Array | None:
        number, horizon = planner.num_proposals, planner.horizon
        if number == 0 or parts.policy is None:
            return None
        keys, begin = jax.random.split(key, (horizon, number)), np.repeat(np.asarray(obs)[None], number, axis=0)
        return jnp.asarray(follow(simulator, snapshot, begin, lambda obs, t: np.asarray(act(obs, keys[t])), horizon))

    return offer


def _mean(world: EnsembleWorld, name: str) -> Callable[[Array, Array, Array], Array]:
    """Of the elites."""
    elites = world.members(world.elites)
    return lambda *seen: agreed(elites, lambda member: getattr(member, name)(*seen))


def _on_host(function: Callable[..., Array]) -> Callable[..., np.ndarray]:
    """`function` of one, for NumPy arrays of many."""
    compiled = jax.jit(jax.vmap(function))
    return lambda *arrays: np.asarray(compiled(*(np.asarray(array, np.float32) for array in arrays)))
