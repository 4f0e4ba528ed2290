"""Anything that can be restored as a simulator to plan in: copies of the environment are stepped one by one, in worker
processes. Right for every environment, and slower by far than physics that is rolled out natively."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from foreplan.core.machine import cores
from foreplan.core.spec import Exactness, Snapshot
from foreplan.envs import names
from foreplan.envs.base import Env
from foreplan.sims.rollout import Rollout

WORKER: dict[str, Env] = {}  # what this process steps, if it is a worker


class SteppingSimulator:
    """Scores candidates by the environment's own rewards. `workers` 0 steps in this process."""

    def __init__(self, env: Env, workers: int | None = None) -> None:
        self.env = env
        env.reset(0)
        self.exactness: Exactness = env.exactness
        self._workers = cores() if workers is None else workers
        self._pool: ProcessPoolExecutor | None = None

    def snapshot(self) -> Snapshot:
        return self.env.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.env.restore(snapshot)

    def rollout(self, snapshot: Snapshot, actions: np.ndarray) -> Rollout:
        """What `actions` [n, horizon, action] return from `snapshot`."""
        if self._workers == 0:
            return step_all(self.env, snapshot, actions)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork of a process that runs JAX may hang
            given = (self.env.name, self.env.spec.action_repeat)
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=build, initargs=given)
        chunks = [chunk for chunk in np.array_split(actions, self._workers) if len(chunk)]
        parts = list(self._pool.map(work, [snapshot] * len(chunks), chunks))
        return Rollout(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def many(self, snapshot: Snapshot, number: int) -> list[Snapshot | None]:
        """`number` times the state of `snapshot`, to be advanced each by itself."""
        return [snapshot] * number

    def advance(
        self, states: list[Snapshot | None], actions: np.ndarray, obs: np.ndarray
    ) -> tuple[list[Snapshot | None], np.ndarray, np.ndarray, np.ndarray]:
        """One decision each, in this process: (states, what is observed then, rewards [n], 0 where the episode has
        terminated). Where an episode has ended nothing moves; `obs` is what was observed last."""
        after, rewards, discounts = obs.copy(), np.zeros(len(states)), np.ones(len(states))
        moved = list(states)
        for i, state in enumerate(states):
            if state is None:
                continue
            self.env.restore(state)
            try:
                after[i], rewards[i], terminated, truncated = self.env.step(actions[i])
            except Exception:  # what diverges raises in every library's own way
                moved[i], rewards[i] = None, -np.inf
                continue
            discounts[i] = 1.0 - terminated
            moved[i] = None if terminated or truncated else self.env.snapshot()
        return moved, after, rewards, discounts

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self.env.close()


def build(name: str, action_repeat: int) -> None:
    WORKER["env"] = names.build(name, action_repeat)
    WORKER["env"].reset(0)


def work(snapshot: Snapshot, actions: np.ndarray) -> Rollout:
    return step_all(WORKER["env"], snapshot, actions)


def step_all(env: Env, snapshot: Snapshot, actions: np.ndarray) -> Rollout:
    """One candidate after another; nothing is earned after an episode's end, however it came."""
    rewards, discounts = np.zeros(actions.shape[:2]), np.ones(actions.shape[:2])
    for index, plan in enumerate(actions):
        env.restore(snapshot)
        for t, action in enumerate(plan):
            try:
                _, rewards[index, t], terminated, truncated = env.step(action)
            except Exception:  # what diverges raises in every library's own way
                rewards[index, 0] = -np.inf
                break
            discounts[index, t] = 1.0 - terminated
            if terminated or truncated:
                break
    return Rollout(rewards, discounts, np.zeros(len(actions)), np.zeros(len(actions), int))
