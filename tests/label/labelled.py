"""Small runs that can be labelled, and a retraining that takes no time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from toys import Toy

from foreplan.data.journal import Label
from foreplan.label.retraining import Report
from foreplan.label.session import Options, Session
from foreplan.label.visits import Policy
from foreplan.run.loop import train
from foreplan.run.saved import Saved
from foreplan.run.settings import Settings

SMALL = Options(states=12, episodes=2, height=48, small=48)


@dataclass(frozen=True)
class Chooser(Toy):
    """Chooses between discrete actions by the same linear law."""

    action_kinds = ("continuous", "discrete")

    def act(self, learner, timestep, memory, key, explore):
        best = jnp.argmax(jnp.asarray(timestep.obs) @ learner.gain.T, axis=1)
        return jax.nn.one_hot(best, learner.gain.shape[0]), memory, {}


def made(out: Path, env: str = "toys:walk", agent: Any = None) -> Path:
    """A run directory."""
    settings = Settings(env, steps=100, eval_every=10_000, eval_episodes=1, log_every=100)
    return train(agent or Toy(random_decisions=60), settings, out)


def fit(policy: Policy, labels: Sequence[Label], report: Report) -> Policy:
    """Least squares, in a few steps."""
    obs, action = (np.array([getattr(label, name) for label in labels], np.float32) for name in ("obs", "action"))
    gain = np.asarray(policy.learner.gain)
    for epoch in range(20):
        error = obs @ gain.T - action
        gain = gain - 0.5 * (error.T @ obs) / np.sum(obs**2)
        report(float(epoch), float(np.mean(error**2)))
    return with_gain(policy, gain)


def with_gain(policy: Policy, gain: np.ndarray) -> Policy:
    learner = eqx.tree_at(lambda tree: tree.gain, policy.learner, jnp.asarray(gain, jnp.float32))
    return Policy(policy.number + 1, policy.agent, learner)


def opened(run: Path, options: Options = SMALL, retrain=fit) -> Session:
    """The session of a run, once all its pictures are made."""
    session = Session(Saved.open(run), options, retrain)
    session.prepared()
    return session
