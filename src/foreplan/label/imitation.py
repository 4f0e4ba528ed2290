"""Retraining by imitation: DAgger's last two steps, with people as the expert (Ross et al. 2011, algorithm 3.1).

 3. add what people have said to what the run had learned from     `Imitation.examples`
 4. fit the policy to all of it                                     `Imitation.fit`

A run of BC or DAgger has the labels in its replay buffer. A run of any other agent has none: a new BC policy then
imitates what the run's own policy does, save where people have said something else; each of their labels counts as
WEIGHT such actions.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents.bc import BC
from foreplan.agents.dagger import DAgger
from foreplan.core.replay import Replay
from foreplan.core.types import Learner, Spec, VectorEnv
from foreplan.data.journal import Label
from foreplan.label.retraining import Report
from foreplan.label.visits import Policy, collect
from foreplan.run import checkpoint
from foreplan.run.saved import Saved

WEIGHT = 10
EPOCHS, PATIENCE = 10, 5  # between two points of the curve; points without a gain, after which it ends
HOLD_OUT = 0.1  # share of the episodes that say when


@dataclass(frozen=True)
class Examples:
    """What should be done where: leaves [example, ...]."""

    obs: np.ndarray
    action: np.ndarray
    episode: np.ndarray  # by which the hold-out set is chosen


class Imitation:
    def __init__(self, saved: Saved, episodes: int) -> None:
        """`episodes` are played where the run has no labels of its own."""
        self._saved, self._episodes = saved, episodes
        self._own: Examples | None = None
        self._weight = 1 if isinstance(saved.agent, BC | DAgger) else WEIGHT

    def fit(self, policy: Policy, labels: Sequence[Label], report: Report) -> Policy:
        """The next policy: the best of several short fits, each of which begins where the last one ended."""
        env = self._saved.make_env(self._saved.settings.env, action_repeat=self._saved.settings.action_repeat)
        spec = env.spec
        if self._own is None:
            self._own = self._labels_of_the_run() or self._play(policy, env)
        env.close()
        agent, learner = self._beginning(policy, spec)
        replay = filled(spec, agent, self.examples(labels))
        batch_size = min(agent.fitting.batch_size, replay.capacity // 8)
        fitting = replace(agent.fitting, max_epochs=EPOCHS, batch_size=batch_size, decay=False, hold_out=HOLD_OUT)
        short = replace(agent, fitting=fitting, anew=False)
        best, least, vain = learner, np.inf, 0
        for turn in range(-(-agent.fitting.max_epochs // EPOCHS)):
            learner, metrics = short.refit(learner, replay, jax.random.key(turn))
            loss = float(metrics["held_out_loss"])
            report(float((turn + 1) * EPOCHS), loss)
            vain = 0 if loss < least * (1.0 - agent.fitting.gain) else vain + 1
            best, least = (learner, loss) if loss < least else (best, least)
            if vain == PATIENCE:
                break
        return Policy(policy.number + 1, agent, best)

    def _beginning(self, policy: Policy, spec: Spec) -> tuple[BC, Learner]:
        if isinstance(policy.agent, BC):
            return policy.agent, policy.learner
        if isinstance(policy.agent, DAgger):
            return policy.agent.policy, policy.learner.policy
        agent = BC()
        return agent, jax.jit(lambda key: agent.init(spec, key))(jax.random.key(0))

    def examples(self, labels: Sequence[Label]) -> Examples:
        """All that there is to learn from."""
        assert self._own is not None
        obs, action = (np.array([getattr(one, name) for one in labels], np.float32) for name in ("obs", "action"))
        episode = np.array([zlib.crc32(one.state.rsplit("-", 2)[0].encode()) >> 1 for one in labels], np.int32)
        theirs = [np.repeat(array, self._weight, axis=0) for array in (obs, action, episode)]
        said = {row.tobytes() for row in obs}
        kept = np.array([row.tobytes() not in said for row in self._own.obs], np.bool_)
        own = (self._own.obs[kept], self._own.action[kept], self._own.episode[kept])
        return Examples(*(np.concatenate(pair) for pair in zip(own, theirs, strict=True)))

    def _labels_of_the_run(self) -> Examples | None:
        """What a run of BC or DAgger has learned from; None for any other."""
        if not isinstance(self._saved.agent, BC | DAgger):
            return None
        newest = checkpoint.newest_whole(self._saved.out / checkpoint.FOLDER, lambda line: None)
        rows = checkpoint.load(newest, "replay")["replay"]
        counts = rows["extras/labelled"]
        return Examples(rows["obs"][counts], rows["extras/label"][counts], rows["episode"][counts])

    def _play(self, policy: Policy, env: VectorEnv) -> Examples:
        visits, _ = collect(policy, env, self._episodes)
        obs, action = np.stack([visit.obs for visit in visits]), np.stack([visit.action for visit in visits])
        return Examples(obs, action.clip(-1.0, 1.0), np.array([visit.episode for visit in visits], np.int32))


def filled(spec: Spec, agent: BC, examples: Examples) -> Replay:
    """A replay buffer of the examples, with room for as many as a power of two, so that it compiles seldom."""
    number = len(examples.obs)
    empty = Replay.create(spec, max(256, 2 ** (number - 1).bit_length()), agent.extras(spec))

    def put(ring: jax.Array | np.ndarray, rows: np.ndarray) -> jax.Array:
        full = np.zeros(ring.shape, ring.dtype)
        full[:number, 0] = rows
        return jnp.asarray(full)

    steps = empty.steps
    extras = {"label": put(steps.extras["label"], examples.action)}
    extras["labelled"] = put(steps.extras["labelled"], np.ones(number, np.bool_))
    steps = replace(
        steps,
        obs=put(steps.obs, examples.obs),
        action=put(steps.action, examples.action),
        episode=put(steps.episode, examples.episode),
        extras=steps.extras | extras,
    )
    head = jnp.asarray(number % empty.capacity, jnp.int32)
    return Replay(steps=steps, head=head, size=jnp.asarray(number, jnp.int32))
