"""TD-MPC2 learns: the pendulum, from scratch, within a minute on one core."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import TD_MPC2

from foreplan.planners.mppi import MPPI
from foreplan.run.loop import train
from foreplan.run.settings import Settings

AGENT = replace(
    TD_MPC2,
    planner=MPPI(horizon=3, num_samples=48, num_proposals=8, num_elites=12, iterations=3),
    network=replace(TD_MPC2.network, latent=32, width=64, encoder_width=64, heads=2, dropout=0.0, activation="silu"),
    batch_size=48,
    min_seed_steps=1000,
)
RANDOM = -1200.0  # what acting at random returns, on average; the best policies reach about -150


@pytest.mark.slow
def test_tdmpc2_swings_the_pendulum_up(tmp_path: Path) -> None:
    settings = Settings(env="jax/pendulum", steps=3000, seed=0, eval_every=3000, save_every=3000)
    train(AGENT, settings, tmp_path / "run")
    (line,) = (tmp_path / "run" / "eval.jsonl").read_text().splitlines()
    returns = json.loads(line)["returns"]
    assert np.median(returns) > -450.0, returns
    assert np.mean(returns) > RANDOM / 2, returns
