"""The parts of TD-MPC2's configuration, and what it learns; what they do stands in `agents/tdmpc.py`."""

from dataclasses import dataclass

import equinox as eqx
import optax
from jaxtyping import Array, Float32

from foreplan.nn.nets import MLP, Ensemble
from foreplan.nn.stats import RunningScale
from foreplan.worlds.latent import LatentWorld


@dataclass(frozen=True)
class Losses:
    """The weights of the joint loss (TD-MPC2, equation 3) and of the policy's."""

    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    continuation: float = 1.0
    rho: float = 0.5  # weight of each further step of the rollout
    entropy: float = 1e-4
    cloning: float = 1.0  # of the policy's squared distance to demonstrated actions, where there are any


@dataclass(frozen=True)
class Optimiser:
    lr: float = 3e-4
    encoder_lr_scale: float = 0.3
    clip: float = 20.0  # of the gradient's global norm


class Learner(eqx.Module):
    world: LatentWorld
    policy: MLP
    target_critics: Ensemble
    world_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    q_scale: RunningScale
    discount: Float32[Array, ""]
