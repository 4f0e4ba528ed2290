"""The presets of MBPO have the settings of the authors' code (tests/parity/README.md)."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from foreplan.agents.mbpo import SIZES

THEIRS = json.loads(Path(__file__).with_name("mbpo.json").read_text())
COMMON = THEIRS.pop("all")


def test_every_task_has_a_preset() -> None:
    assert THEIRS.keys() == SIZES.keys() - {"default", "small"}


@pytest.mark.parametrize("task", sorted(THEIRS))
def test_settings_are_the_authors(task: str) -> None:
    theirs, agent = COMMON | THEIRS[task], SIZES[task]
    sac, rollouts, fitting = agent.sac, agent.rollouts, agent.fitting.fitting
    ours = {
        "discount": sac.discount,
        "tau": sac.critic.target_rate,
        "batch_size": sac.data.batch_size,
        "hidden_layer_sizes": [sac.critic.network.width] * sac.critic.network.layers,
        "target_entropy": sac.entropy.target,
        "real_ratio": agent.real_ratio,
        "num_networks": agent.network.members,
        "num_elites": agent.network.elites,
        "hidden_dim": agent.network.width,
        "model_lr": fitting.lr,
        "model_batch_size": fitting.batch_size,
        "holdout_ratio": fitting.hold_out,
        "max_epochs_since_update": fitting.patience,
        "weight_decay": list(agent.fitting.decay),
        "rollout_batch_size": rollouts.every * rollouts.number,
        "model_train_freq": rollouts.every,
        "n_train_repeat": agent.utd,
        "n_initial_exploration_steps": agent.min_seed_steps,
    }
    assert ours == {name: theirs[name] for name in ours}
    rates = sac.optimiser.policy_lr, sac.optimiser.critic_lr, sac.optimiser.temperature_lr
    assert rates == (theirs["lr"],) * 3
    assert len(agent.fitting.decay) == agent.network.layers + 1
    assert rollouts.kept == theirs["model_retain_epochs"] * theirs["epoch_length"]


@pytest.mark.parametrize("task", sorted(THEIRS))
def test_rollouts_grow_as_the_authors_do(task: str) -> None:
    """Their epochs begin after the steps at random, and a rollout has as many steps as the line between the two epochs
    says, rounded down."""
    theirs, rollouts = COMMON | THEIRS[task], SIZES[task].rollouts
    first, last, shortest, longest = theirs["rollout_schedule"]
    for epoch in (0, first, (first + last) // 2, last - 1, last, last + 50):
        share = min(max(0.0, (epoch - first) / (last - first)), 1.0)
        decisions = theirs["n_initial_exploration_steps"] + epoch * theirs["epoch_length"]
        length = int(rollouts.schedule.length(jnp.int32(decisions)))
        assert length == int(shortest + share * (longest - shortest))
        assert rollouts.kept * rollouts.number * length <= rollouts.capacity
