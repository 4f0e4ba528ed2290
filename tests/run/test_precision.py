"""A run multiplies in the precision that it is told."""

from dataclasses import replace

import jax
import numpy as np

from foreplan.agents.sac import SAC
from foreplan.agents.sac_parts import Critic
from foreplan.nn.network import Architecture
from foreplan.run.loop import resume, train
from foreplan.run.saved import Saved
from foreplan.run.settings import Settings


def test_a_run_learns_in_the_precision_it_is_told_and_goes_on_in_it(tmp_path) -> None:
    agent = SAC(policy=Architecture(width=16), critic=Critic(Architecture(width=16)), min_seed_steps=20)
    settings = Settings("jax/pendulum", steps=60, eval_every=60, eval_episodes=1, save_every=40, log_every=20)
    half = replace(settings, precision="bfloat16")
    train(agent, settings, tmp_path / "full")
    train(agent, half, tmp_path / "whole")
    train(agent, replace(half, steps=40), tmp_path / "parted")
    resume(tmp_path / "parted", steps=60)
    runs = ("full", "whole", "parted")
    full, whole, parted = (jax.tree.leaves(Saved.open(tmp_path / run).parts["learner"]) for run in runs)
    assert any((a != b).any() for a, b in zip(full, whole, strict=True))
    for a, b in zip(whole, parted, strict=True):
        np.testing.assert_array_equal(a, b)
