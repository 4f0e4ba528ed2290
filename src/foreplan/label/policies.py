"""The policies that a labelling session has accepted, kept beside the labels as checkpoints are."""

from collections.abc import Callable
from pathlib import Path

from foreplan.core.spec import Spec
from foreplan.label.visits import Policy
from foreplan.run import checkpoint
from foreplan.run.saved import Saved
from foreplan.run.settings import decode, encode
from foreplan.run.state import learner_like

FOLDER = "policies"
KEEP = 1_000_000  # all of them: a label's provenance names its policy


def save(folder: Path, policy: Policy) -> Path:
    parts = {"agent": {"config": encode(policy.agent)}, "learner": checkpoint.flatten(policy.learner)}
    return checkpoint.save(folder / FOLDER, policy.number, parts, KEEP)


def newest(folder: Path, saved: Saved, spec: Spec, say: Callable[[str], None] = print) -> Policy:
    """The last policy that was accepted and is whole; where there is none, the run's own."""
    if not checkpoint.all_checkpoints(folder / FOLDER):
        return Policy(0, saved.agent, checkpoint.learner_of(saved.agent, spec, saved.parts))
    path = checkpoint.newest_whole(folder / FOLDER, say)
    parts = checkpoint.load(path)
    agent = decode(parts["agent"]["config"])
    learner = checkpoint.unflatten(learner_like(agent, spec), parts["learner"])
    return Policy(int(path.name.rpartition("-")[2]), agent, learner)
