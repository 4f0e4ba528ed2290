"""Evaluation: deterministic, in an environment and with a planner memory of its own, on seeds training never sees."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from foreplan.core.types import Agent, Learner, TimeStep, VectorEnv
from foreplan.run.clock import Stopwatch
from foreplan.run.randomness import Keys
from foreplan.run.settings import MAX_SEED
from foreplan.run.state import put

MAX_DECISIONS = 10_000  # where an environment does not say when its episodes end


@dataclass(frozen=True)
class Evaluation:
    """One episode in each environment: its return, and its length in decisions."""

    seed: int
    returns: list[float]
    lengths: list[int]
    env_steps: int  # simulator steps that these episodes took
    seconds: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"mean": self.mean}


def play(
    agent: Agent, learner: Learner, env: VectorEnv, seed: int = 0, watch: Stopwatch | None = None
) -> Iterator[tuple[TimeStep, np.ndarray, TimeStep]]:
    """Act without exploring, for ever: (timestep, actions [env, action], what came after), as NumPy arrays."""
    keys, watch = Keys(seed), watch or Stopwatch()
    with jax.transfer_guard("allow"):  # a beginning is no part of a loop
        memory = agent.memory(env.spec)
    timestep = env.reset(MAX_SEED + 1 + seed)
    turn = 0
    while True:
        with watch("evaluate", f"act in {env.spec.num_envs} environments, evaluating"):
            planned, memory, _ = agent.act(learner, put(timestep), memory, keys("evaluate", turn), False)
            actions = np.asarray(jax.device_get(planned))
        with watch("evaluate"):
            env.send(actions)
            after = env.recv()
        yield timestep, actions, after
        with watch("evaluate"):
            timestep = env.restart(after)
        turn += 1


def evaluate(
    agent: Agent,
    learner: Learner,
    env: VectorEnv,
    seed: int = 0,
    watch: Stopwatch | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """One episode in each of the environments, all at once. None where it was interrupted."""
    begin, spec = time.perf_counter(), env.spec
    returns = np.zeros(spec.num_envs)
    lengths = np.zeros(spec.num_envs, np.int64)
    running = np.ones(spec.num_envs, bool)
    for _, _, after in play(agent, learner, env, seed, watch):
        returns += running * np.asarray(after.reward, np.float64)
        lengths += running
        running &= ~(np.asarray(after.terminated) | np.asarray(after.truncated)) & (lengths < MAX_DECISIONS)
        if not running.any():
            break
        if interrupted():
            return None
    steps = int(lengths.sum()) * spec.action_repeat
    return Evaluation(seed, returns.tolist(), lengths.tolist(), steps, time.perf_counter() - begin)
