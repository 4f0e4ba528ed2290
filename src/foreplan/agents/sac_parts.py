"""The parts of soft actor-critic, as fields that presets combine, and what is learned; what they do stands in
`agents/sac.py`."""

from dataclasses import dataclass, field, replace
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32

from foreplan.core.maths import TwoHot
from foreplan.core.types import Metrics
from foreplan.nn.network import Architecture, Heads, Network
from foreplan.nn.stats import Statistics


@dataclass(frozen=True)
class Critic:
    network: Architecture = field(default_factory=Architecture)
    heads: int = 2
    subset: int = 2  # heads, drawn anew for each update, that make the target
    lowest: Literal["always", "episodic", "never"] = "always"  # their lowest value makes it, else their mean; episodic:
    #                                                            only where an episode can terminate
    mean_for_policy: bool = False  # the policy climbs the mean of all heads, not what makes the target
    target_rate: float = 0.005  # 0: no target critics; s and s' go through the critics as one batch
    two_hot: TwoHot | None = None  # values as categorical distributions; None: as numbers


@dataclass(frozen=True)
class Entropy:
    initial: float = 1.0  # temperature
    target: float | None = None  # nats of a whole action; None: `per_dimension` for each of its dimensions
    per_dimension: float = -1.0


@dataclass(frozen=True)
class Optimiser:
    policy_lr: float = 3e-4
    critic_lr: float = 3e-4
    temperature_lr: float = 3e-4
    b1: float = 0.9  # of Adam

    def of_parts(self) -> dict[str, optax.GradientTransformation]:
        rates = {"policy": self.policy_lr, "critics": self.critic_lr, "temperature": self.temperature_lr}
        return {name: optax.adam(rate, b1=self.b1) for name, rate in rates.items()}


@dataclass(frozen=True)
class Data:
    batch_size: int = 256
    n_step: int = 1
    fade: float = 0.0  # of replay, see `core.replay.sample`
    normalise_obs: bool = False  # by running statistics
    scale_returns: float | None = None  # divide rewards so that returns stay within this; None: as they are


class Batch(eqx.Module):
    """What an update needs of n steps: return + discount * V(next_obs) is the target at (obs, action)."""

    obs: Float32[Array, "batch obs"]
    action: Float32[Array, "batch action"]
    returns: Float32[Array, "batch"]
    discount: Float32[Array, "batch"]
    next_obs: Float32[Array, "batch obs"]
    demo: Bool[Array, "batch"] | None = None  # which are demonstrations; None where there are none


class Learner(eqx.Module):
    policy: Network
    critics: Heads
    targets: Heads | None
    log_temperature: Float32[Array, ""]
    optimisers: dict[str, optax.OptState]
    statistics: Statistics
    updates: Int32[Array, ""]
    policy_metrics: Metrics  # of the policy's last update
    average: Network | None  # of the policy over its last updates; None: none is kept
    terminates: bool = eqx.field(static=True)

    @property
    def temperature(self) -> Float32[Array, ""]:
        return jnp.exp(self.log_temperature)

    def steady(self) -> "Learner":
        """With the average in the place of the policy, to act by where nothing is explored."""
        return self if self.average is None else replace(self, policy=self.average)
