"""Who must pass the contracts: one line an agent, one line a planner; small enough for a test."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents.bc import BC
from foreplan.agents.dagger import DAgger
from foreplan.agents.experts import CallableExpert
from foreplan.agents.fitted import Fitted
from foreplan.agents.mbmpc import MBMPC
from foreplan.agents.mbpo import MBPO, Rollouts
from foreplan.agents.pets import PETS
from foreplan.agents.planned_value import ValuePlanning
from foreplan.agents.sac import SAC, Critic, Data
from foreplan.agents.sac import Optimiser as Rates
from foreplan.agents.tdmpc import TDMPC2, Network, Optimiser
from foreplan.agents.tdmpc_parts import Critic as Critics
from foreplan.agents.tdmpc_parts import Losses
from foreplan.core.fitting import Fitting
from foreplan.core.maths import TwoHot
from foreplan.core.replay import Priority
from foreplan.core.types import Spec, TimeStep
from foreplan.nn.network import Architecture
from foreplan.planners.cem import CEM
from foreplan.planners.icem import ICEM
from foreplan.planners.limits import Limited
from foreplan.planners.mppi import MPPI
from foreplan.planners.predictive import predictive_sampling
from foreplan.planners.random_shooting import RandomShooting
from foreplan.planners.splines import Splined
from foreplan.worlds.ensemble import Network as WorldNetwork
from foreplan.worlds.fitting import WorldFitting

PLANNER = MPPI(horizon=3, num_samples=32, num_proposals=4, num_elites=8, iterations=2)
TD_MPC2 = TDMPC2(
    planner=PLANNER,
    network=Network(latent=16, width=32, encoder_width=32, heads=3, dropout=0.01),
    optimiser=Optimiser(lr=1e-3),
    batch_size=16,
    min_seed_steps=20,
)
TD_MPC = TDMPC2(  # of 2022
    planner=PLANNER,
    network=replace(
        TD_MPC2.network, activation="elu", group=0, normalise_latent=False, layer_norm="critic", policy_noise=0.1
    ),
    two_hot=TwoHot(bins=1),
    losses=Losses(consistency=2.0, reward=0.5, value=0.2, entropy=0.0),
    critic=Critics(improve="min", search="min", depths="growing", growth=100),
    optimiser=Optimiser(lr=1e-3, encoder_lr_scale=1.0, clip=10.0),
    priority=Priority(exponent=0.6),
    batch_size=16,
    target_encoder=True,
    min_seed_steps=20,
)

SMALL = Architecture(width=32)
PLAIN_SAC = SAC(
    policy=SMALL, critic=Critic(SMALL), optimiser=Rates(3e-3, 3e-3, 3e-3), data=Data(batch_size=16), min_seed_steps=20
)
SPHERE, BATCH_NORM = replace(SMALL, kind="hypersphere", layers=1), replace(SMALL, kind="batch-renorm", weight_norm=True)
SIMBA_SAC = replace(
    PLAIN_SAC,
    policy=SPHERE,
    critic=Critic(SPHERE, heads=3, lowest="episodic", two_hot=TwoHot(51, 5.0, linear=True)),
    optimiser=Rates(1e-2, 3e-2, 1e-2),
    data=Data(batch_size=16, n_step=3, fade=1.0, normalise_obs=True, scale_returns=5.0),
)
CROSSQ_SAC = replace(PLAIN_SAC, policy=BATCH_NORM, critic=Critic(BATCH_NORM, target_rate=0.0))
DROQ_SAC = replace(PLAIN_SAC, critic=Critic(replace(SMALL, kind="layer-norm", dropout=0.1), mean_for_policy=True))

CLONE = BC(widths=(32,), members=2, fitting=Fitting(batch_size=64, max_epochs=30))
EXPERT = CallableExpert("callable:minus", lambda obs: np.tanh(-obs[:2]), Spec(obs_shape=(5,), action_dim=2))
MODEL_BASED = MBPO(
    sac=replace(PLAIN_SAC, discount=0.98),  # not the one above, whose programs would be compiled already
    network=WorldNetwork(members=3, elites=2, layers=2, width=32, head_layers=1, head_width=16),
    fitting=WorldFitting(Fitting(batch_size=16, max_epochs=3), targets="delta"),
    rollouts=Rollouts(every=10, number=4, capacity=100),
    real_ratio="auto",
    min_seed_steps=20,
)

WORLD_FITTING = WorldFitting(Fitting(batch_size=16, max_epochs=1))
TINY = WorldNetwork(members=3, elites=2, layers=2, width=16, head_width=16)
SMALL_PETS = PETS(ICEM(horizon=3, num_samples=16, num_elites=4, iterations=2), TINY, WORLD_FITTING, particles=4)
PLAIN_MPC = MBMPC(
    CEM(horizon=3, num_samples=64, num_elites=8, iterations=3),  # the best of few plans is often that of other states
    replace(TINY, members=1, elites=1, probabilistic=False),
    WORLD_FITTING,
)

AGENTS: dict[str, Any] = {
    "bc": CLONE,
    "dagger": DAgger(policy=CLONE).taught_by(EXPERT),
    "mbmpc": replace(PLAIN_MPC, value="td"),
    "pets": replace(SMALL_PETS, value="plan", value_planning=ValuePlanning(sweeps=2, states=64, epochs=1)),
    "tdmpc": TD_MPC,
    "tdmpc2": TD_MPC2,
    "tdmpc2 of scaled returns": replace(TD_MPC2, critic=Critics(scale_returns=5.0), averaging=0.01),
    "sac": PLAIN_SAC,
    "simba": SIMBA_SAC,
    "crossq": CROSSQ_SAC,
    "mbpo": MODEL_BASED,
}
FALLING = {
    "bc": ("policy_loss",),
    "dagger": ("policy_loss",),
    "mbmpc": ("dynamics_error", "reward_error"),
    "pets": ("dynamics_error", "reward_error"),
    "tdmpc": ("consistency_loss", "continuation_loss"),
    "tdmpc2": ("reward_loss", "continuation_loss"),
    "tdmpc2 of scaled returns": ("reward_loss", "continuation_loss"),
    "sac": ("policy_loss",),
    "simba": ("critic_loss",),
    "crossq": ("critic_loss",),
    "mbpo": ("policy_loss",),
}  # the losses that updates on one batch must lower
PLANNERS: dict[str, Any] = {
    "mppi": MPPI(horizon=4, num_samples=256, num_proposals=0, num_elites=32, iterations=8),
    "mppi of raw temperature": MPPI(4, 256, 0, 32, iterations=8, temperature=0.5, scale="raw"),
    "random shooting": RandomShooting(horizon=1, num_samples=20_000),
    "cem": CEM(horizon=4, num_samples=128, num_elites=16, iterations=8),
    "icem": ICEM(horizon=4, num_samples=128, num_elites=16, iterations=8, decay=1.0, exponent=1.0),
    "icem of splines": Splined(
        ICEM(horizon=4, num_samples=128, num_elites=16, iterations=8, decay=1.0, exponent=0.0), 4
    ),
    "predictive sampling": predictive_sampling(4, 4, "cubic", num_samples=512, iterations=20, std=0.1),
    "limited cem": Limited(CEM(horizon=4, num_samples=128, num_elites=16, iterations=16), rate=1.5),
}


def taught(agent: Any, learner: Any, replay: Any, key: Any) -> tuple[Any, Any]:
    """What the agent learns at one go: from a batch, or, where that is all it does, from all data."""
    if isinstance(agent, Fitted):
        return agent.refit(learner, replay, key)
    return agent.learn(learner, replay, key, 1)


def timestep(obs: Any, first: Any = None) -> TimeStep:
    """What an environment says while nothing special happens: `obs` is [env, obs]."""
    obs = jnp.asarray(obs, jnp.float32)
    no = jnp.zeros(obs.shape[0], jnp.bool_)
    return TimeStep(obs, jnp.zeros(obs.shape[0]), no, no, no if first is None else jnp.asarray(first, jnp.bool_))


def shapes(tree: Any) -> Any:
    """The structure of a tree, with shape and dtype of every leaf: two trees agree if these are equal."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def copy(tree: Any) -> Any:
    """A tree that may be donated while the original lives on."""
    return jax.tree.map(jnp.copy, tree)
