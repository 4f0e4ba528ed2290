"""The states that a policy visits, each with all that it takes to go back to it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from foreplan.core.types import Agent, Learner, Memory, Snapshot, TimeStep, VectorEnv
from foreplan.envs import names
from foreplan.run.evaluate import MAX_DECISIONS
from foreplan.run.randomness import Keys
from foreplan.run.settings import MAX_SEED
from foreplan.run.state import put

CLIP_SECONDS, CLIP_FRAMES = 0.6, 8  # of the states just before one


@dataclass(frozen=True)
class Policy:
    """Who acts. Number 0 is the run's own; every retraining that is accepted makes the next."""

    number: int
    agent: Agent
    learner: Learner

    @property
    def version(self) -> str:
        return f"policy-{self.number}"


@dataclass(frozen=True)
class Visit:
    """One state: `snapshot` is the environment's, `memory` the policy's before it acts, `past` the states just before,
    oldest first."""

    id: str  # says policy, round, episode and decision, and ends with a digest of what was seen
    episode: int
    time: int  # decisions since the episode began
    timestep: TimeStep
    snapshot: Snapshot
    memory: Memory
    action: np.ndarray  # float32 [action]: what the policy does here
    past: tuple[Snapshot, ...]

    @property
    def obs(self) -> np.ndarray:
        return np.asarray(self.timestep.obs[0])


def collect(
    policy: Policy, env: VectorEnv, episodes: int, round: int = 0, say: Callable[[str], None] = lambda line: None
) -> tuple[list[Visit], list[float]]:
    """All states of `episodes` episodes that `policy` plays in `env`, one copy, and the episodes' returns.

    It is decided by the arguments alone: a page that was killed finds the same states, by the same names, again.
    """
    agent, spec = policy.agent, env.spec
    stride = max(1, round_half(CLIP_SECONDS / CLIP_FRAMES / seconds_per_decision(env)))
    visits: list[Visit] = []
    returns = [0.0]
    snapshots: list[Snapshot] = []
    keys, memory, turn = Keys(round), agent.memory(spec), 0
    timestep = env.reset(MAX_SEED + 1 + round)
    while len(returns) <= episodes:
        planned, after_memory, _ = agent.act(policy.learner, put(timestep), memory, keys("evaluate", turn), False)
        action = np.asarray(jax.device_get(planned))
        past = tuple(snapshots[-stride : -stride * CLIP_FRAMES - 1 : -stride][::-1])
        snapshots.append(env.snapshot())
        place = f"{policy.number}-{round}-{len(returns) - 1}-{len(snapshots) - 1}"
        name = f"{place}-{digest(np.asarray(timestep.obs[0]), action[0])}"
        visits.append(
            Visit(name, len(returns) - 1, len(snapshots) - 1, timestep, snapshots[-1], memory, action[0], past)
        )
        env.send(action)
        after = env.recv()
        returns[-1] += float(after.reward[0])
        if after.terminated[0] or after.truncated[0] or len(snapshots) == MAX_DECISIONS:
            say(f"episode {len(returns)} of {episodes}: return {returns[-1]:.1f}")
            snapshots = []
            returns.append(0.0)
        timestep, memory, turn = env.restart(after), after_memory, turn + 1
    return visits, returns[:-1]


def digest(*arrays: np.ndarray) -> str:
    """A few letters that differ where the numbers do."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:8]


def round_half(value: float) -> int:
    return int(value + 0.5)


def seconds_per_decision(env: VectorEnv) -> float:
    """How long a decision lasts in the environment; 0.05 where it does not say."""
    adapter: Any = next((getattr(host, "adapter", None) for host in names.hosts(env)), None)
    inner: Any = getattr(adapter, "env", None)
    if hasattr(inner, "control_timestep"):
        step = inner.control_timestep()
    else:
        inner = getattr(inner, "unwrapped", inner)
        known = [getattr(inner, name, None) for name in ("dt", "tau")] + [getattr(env, "model", None)]
        known = [getattr(value, "time_step", value) for value in known]
        step = next((float(value) for value in known if isinstance(value, float | int)), None)
    return step * env.spec.action_repeat if step else 0.05
