"""Retraining from labels: the fit does what people said, and keeps to what the policy did where they said nothing."""

import jax
import numpy as np
import pytest
from labelled import made

from foreplan.agents.bc import BC
from foreplan.agents.dagger import DAgger
from foreplan.core.fitting import Fitting
from foreplan.data.journal import Label
from foreplan.label.imitation import WEIGHT, Imitation
from foreplan.label.policies import newest, save
from foreplan.label.visits import collect
from foreplan.run.saved import Saved


def test_a_new_policy_does_what_was_said_and_else_what_the_old_one_did(tmp_path) -> None:
    saved = Saved.open(made(tmp_path / "walk"), lambda line: None)
    env = saved.make_env("toys:walk")
    policy = newest(tmp_path / "labels", saved, env.spec)
    visits, _ = collect(policy, env, 20)
    right = [visit for visit in visits if visit.obs[0] > 0.3]
    labels = [
        Label(f"{i}", v.id, tuple(map(float, v.obs)), (0.0,), (-0.8,), "label", "human:anna", 0.0, "policy-0", 1.0)
        for i, v in enumerate(right)
    ]
    curve = []
    imitation = Imitation(saved, 20)
    after = imitation.fit(policy, labels, lambda epoch, loss: curve.append((epoch, loss)))
    assert (after.number, type(after.agent)) == (1, BC)
    assert len(imitation.examples(labels).obs) == len(visits) + (WEIGHT - 1) * len(labels)
    assert len(curve) >= 3
    assert min(loss for _, loss in curve) < curve[0][1]

    def act(visit) -> float:
        return float(after.agent.act(after.learner, visit.timestep, (), jax.random.key(0), False)[0][0, 0])

    assert np.mean([act(visit) for visit in right]) == pytest.approx(-0.8, abs=0.2)
    left = [visit for visit in visits if visit.obs[0] < -0.3]
    told = np.array([visit.action[0] for visit in left])
    assert np.mean(np.abs(np.array([act(visit) for visit in left]) - told)) < 0.3

    save(tmp_path / "labels", after)
    again = newest(tmp_path / "labels", saved, env.spec)
    assert (again.number, again.agent) == (1, after.agent)
    for one, other in zip(jax.tree.leaves(again.learner), jax.tree.leaves(after.learner), strict=True):
        np.testing.assert_array_equal(one, other)


def half(obs: np.ndarray) -> np.ndarray:
    """An expert that always says the same."""
    return np.float32([0.5])


def test_a_run_of_dagger_brings_its_own_labels(tmp_path) -> None:
    policy = BC(widths=(8,), fitting=Fitting(max_epochs=100), anew=True)
    agent = DAgger(expert="test_label_imitation:half", policy=policy, round_steps=50)
    saved = Saved.open(made(tmp_path / "run", agent=agent), lambda line: None)
    env = saved.make_env("toys:walk")
    policy = newest(tmp_path / "labels", saved, env.spec)
    label = Label("a", "0-0-3-1-ff", (0.0, 0.0), (0.0,), (-1.0,), "label", "human:anna", 0.0, "policy-0", 1.0)
    imitation, losses = Imitation(saved, 1), []
    after = imitation.fit(policy, [label], lambda epoch, loss: losses.append(loss))
    assert losses == sorted(losses, reverse=True)  # each fit goes on where the last one ended
    assert losses[-1] < 0.1 * losses[0]
    assert (after.number, after.agent) == (1, agent.policy)
    examples = imitation.examples([label])
    assert len(examples.obs) > 10
    assert set(examples.action[:-1, 0].tolist()) == {0.5}
    assert examples.action[-1, 0] == -1.0
