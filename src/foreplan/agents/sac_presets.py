"""SAC and its variants as their papers set them, and `frugal`, our own for few samples: each a dict of sizes, the
default first (docs/sac.md has the differences from the papers)."""

from dataclasses import replace

from foreplan.agents.sac import SAC, Critic, Data, Entropy, Optimiser
from foreplan.core.maths import TwoHot
from foreplan.nn.network import Architecture

SAC_SIZES = {
    "default": SAC(),
    "layer-norm": SAC(critic=Critic(Architecture("layer-norm"))),  # for demonstrations (RLPD, Ball et al. 2023)
}

REDQ_SIZES = {"default": SAC(critic=Critic(heads=10, mean_for_policy=True), utd=20.0, policy_every=20)}

DROPOUT = Architecture("layer-norm", dropout=0.01)
DROQ_SIZES = {"default": SAC(critic=Critic(DROPOUT, mean_for_policy=True), utd=20.0, policy_every=20)}


def _crossq(width: int, weight_norm: bool) -> SAC:
    batch_renorm = Architecture("batch-renorm", weight_norm=weight_norm)
    return SAC(
        policy=batch_renorm,
        critic=Critic(replace(batch_renorm, width=width), target_rate=0.0),
        optimiser=Optimiser(1e-3, 1e-3, 1e-3, b1=0.5),
        policy_every=3,
    )


CROSSQ_SIZES = {
    "512": _crossq(512, weight_norm=True),
    "2048": _crossq(2048, weight_norm=False),
}  # the latter the paper's


CATEGORIES = TwoHot(101, 5.0, linear=True)  # of returns that are scaled to within 5


def _frugal(utd: float, policy_every: int = 1) -> SAC:
    return SAC(
        critic=Critic(Architecture("layer-norm"), lowest="episodic", two_hot=CATEGORIES),
        entropy=Entropy(per_dimension=-0.5),
        data=Data(scale_returns=5.0),
        log_std=(-10.0, 2.0),
        utd=utd,
        policy_every=policy_every,
        averaging=0.001,
    )


FRUGAL_SIZES = {"utd2": _frugal(2.0), "utd1": _frugal(1.0), "utd8": _frugal(8.0, policy_every=4)}


def _simba(utd: float, policy_every: int, n_step: int) -> SAC:
    sphere = Architecture("hypersphere", width=256, layers=1)
    return SAC(
        policy=replace(sphere, width=128),
        critic=Critic(sphere, lowest="episodic", two_hot=CATEGORIES),
        entropy=Entropy(initial=0.01, per_dimension=-0.5),
        optimiser=Optimiser(2e-4, 2e-4, 2e-4),
        data=Data(n_step=n_step, fade=0.5, normalise_obs=True, scale_returns=5.0),
        log_std=(-10.0, 2.0),
        utd=utd,
        policy_every=policy_every,
        seed_episodes=5,
    )


SIMBA_SIZES = {
    "utd2": _simba(2.0, policy_every=2, n_step=3),
    "utd1": _simba(1.0, policy_every=1, n_step=3),
    "utd8": _simba(8.0, policy_every=4, n_step=1),
}
