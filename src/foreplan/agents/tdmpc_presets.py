"""TD-MPC2 by size: one for a CPU, and those of the paper; and the TD-MPC before it."""

from dataclasses import replace

from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_parts import Critic, Losses, Optimiser
from foreplan.core.maths import TwoHot
from foreplan.core.replay import Priority
from foreplan.planners.mppi import MPPI
from foreplan.worlds.latent import Network


def _sized(latent: int, width: int, encoder_width: int, encoder_layers: int, heads: int = 5) -> TDMPC2:
    return TDMPC2(network=Network(latent, width, encoder_width, encoder_layers, heads=heads))


SIZES: dict[str, TDMPC2] = {
    # The CPU default, 0.17M parameters: at such widths elementwise work costs as much as the products, so SiLU instead
    # of Mish, no LayerNorm before SimNorm, half the bins, two heads, no dropout; and a planner that leans on its warm
    # start. Targets of three steps: with one the critics learn too late how an episode will end. A search follows
    # critics where they promise too much, so it believes the lesser (docs/value-study.md), at every depth of a plan.
    # Even bins of scaled returns: those in symlog space grow with the value, until a fall makes no difference.
    # Evaluation acts by averaged weights. Two episodes at random to begin with: five delay what it does by itself.
    "nano": TDMPC2(
        planner=MPPI(num_samples=128, num_proposals=16, num_elites=24, iterations=4, temperature=1.0),
        network=Network(
            latent=64, width=128, encoder_width=128, heads=2, dropout=0.0, activation="silu", normalise_latent=False
        ),
        two_hot=TwoHot(bins=51),
        critic=Critic(n_step=3, search="min", depths="every", scale_returns=5.0),
        averaging=0.001,
        seed_episodes=2,
    ),
    "1m": _sized(latent=128, width=384, encoder_width=256, encoder_layers=2, heads=2),
    "5m": _sized(latent=512, width=512, encoder_width=256, encoder_layers=2),  # the paper's
    "19m": _sized(latent=768, width=1024, encoder_width=1024, encoder_layers=3),
    "48m": _sized(latent=768, width=1792, encoder_width=1792, encoder_layers=4),
    "317m": _sized(latent=1376, width=4096, encoder_width=4096, encoder_layers=5, heads=8),
}


def _original(planner: MPPI, width: int, encoder_width: int, batch_size: int, seed_steps: int = 1000) -> TDMPC2:
    """TD-MPC (Hansen, Wang, Su 2022): rewards and values are scalars, latents plain vectors, the
    policy has no entropy, the horizon grows, and windows are drawn by the critics' error."""
    network = Network(50, width, encoder_width, heads=2, dropout=0.0, activation="elu", group=0)
    return TDMPC2(
        planner=planner,
        network=replace(network, normalise_latent=False, layer_norm="critic", policy_noise=0.05),
        two_hot=TwoHot(bins=1),
        losses=Losses(consistency=2.0, reward=0.5, value=0.2, entropy=0.0),  # its value loss is the sum of two heads
        critic=Critic(improve="min", search="min", depths="growing"),
        optimiser=Optimiser(lr=1e-3, encoder_lr_scale=1.0, clip=10.0),
        priority=Priority(exponent=0.6, correction=0.4),
        batch_size=batch_size,
        target_rate=0.005,  # there 0.01 every other update
        target_encoder=True,
        discount=0.99,
        min_seed_steps=seed_steps,
    )


ORIGINAL_SIZES: dict[str, TDMPC2] = {
    "nano": _original(
        MPPI(num_samples=128, num_proposals=8, num_elites=24, iterations=4, temperature=1.0), 128, 128, batch_size=256
    ),
    "paper": _original(
        MPPI(horizon=5, num_samples=537, num_proposals=25, scale="raw"), 512, 256, batch_size=512, seed_steps=5000
    ),
}
