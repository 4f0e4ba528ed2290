"""TD-MPC2 by size: one for a CPU, and those of the paper."""

from foreplan.agents.tdmpc import TDMPC2
from foreplan.core.maths import TwoHot
from foreplan.planners.mppi import MPPI
from foreplan.worlds.latent import Network


def _sized(latent: int, width: int, encoder_width: int, encoder_layers: int, heads: int = 5) -> TDMPC2:
    return TDMPC2(network=Network(latent, width, encoder_width, encoder_layers, heads=heads))


SIZES: dict[str, TDMPC2] = {
    # The CPU default, 0.17M parameters: at such widths elementwise work costs as much as the products, so SiLU instead
    # of Mish, no LayerNorm before SimNorm, half the bins, two heads, no dropout; and a planner that leans on its warm
    # start. Three-step targets: with one step the critics learn too late how an episode will end.
    "nano": TDMPC2(
        planner=MPPI(num_samples=128, num_proposals=16, num_elites=24, iterations=4, temperature=1.0),
        network=Network(
            latent=64, width=128, encoder_width=128, heads=2, dropout=0.0, activation="silu", normalise_latent=False
        ),
        two_hot=TwoHot(bins=51),
        n_step=3,
    ),
    "1m": _sized(latent=128, width=384, encoder_width=256, encoder_layers=2, heads=2),
    "5m": _sized(latent=512, width=512, encoder_width=256, encoder_layers=2),  # the paper's
    "19m": _sized(latent=768, width=1024, encoder_width=1024, encoder_layers=3),
    "48m": _sized(latent=768, width=1792, encoder_width=1792, encoder_layers=4),
    "317m": _sized(latent=1376, width=4096, encoder_width=4096, encoder_layers=5, heads=8),
}
