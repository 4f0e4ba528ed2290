"""The vector environment over host environments, in this process or in worker processes.

There is no autoreset: `recv` gives the true successor and `restart` begins what has ended, so nobody downstream meets
an invented transition. Workers are spawned, never forked: forking a process that runs JAX's threads deadlocks.
"""

import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from foreplan.core.errors import EnvError, UsageError
from foreplan.core.types import Exactness, Snapshot, Spec, TimeStep
from foreplan.envs.batch import Batch, weakest
from foreplan.envs.worker import work


@runtime_checkable
class Part(Protocol):
    """Some of the environments. Each `submit` is answered by one `result`, in order."""

    def submit(self, method: str, *args: Any) -> None: ...
    def result(self) -> Any: ...
    def close(self) -> None: ...


class Local:
    """Environments in this process: the work is done when its result is asked for."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.envs = batch.envs

    def submit(self, method: str, *args: Any) -> None:
        self._call = method, args

    def result(self) -> Any:
        method, args = self._call
        value = getattr(self._batch, method)(*args)
        return (value, self._batch.exactness) if method == "reset" else value

    def close(self) -> None:
        self._batch.close()


class Remote:
    """Environments in a worker process. `build` makes the Batch there; it must be importable and plain."""

    def __init__(self, name: str, first: int, build: Callable[..., Batch], *args: Any) -> None:
        self._name, self._first = name, first
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, build, *args), daemon=True)
        self._process.start()
        theirs.close()

    def submit(self, method: str, *args: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # a worker that has ended is reported by `result`
            self._pipe.send((method, args))

    def result(self) -> Any:
        try:
            ok, value = self._pipe.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._process.join(1.0)
            detail = f"the worker process ended with exit code {self._process.exitcode}"
            raise EnvError(self._name, self._first, 0, "worker", detail) from None
        if not ok:
            raise value
        return value

    def close(self) -> None:
        """Let the worker end; one that hangs in its environment is ended."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(("close", ()))
        self._process.join(5.0)
        self._process.terminate()
        self._pipe.close()


class HostVectorEnv:
    """The `VectorEnv` over environments of one kind. `counts[k]` of them live in `parts[k]`."""

    def __init__(
        self, name: str, spec: Spec, exactness: Exactness, parts: Sequence[Part], counts: Sequence[int]
    ) -> None:
        self.name, self.exactness = name, exactness
        self.spec = replace(spec, num_envs=sum(counts))
        self.parts = list(parts)
        edges = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self._slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self._ended = np.ones(self.spec.num_envs, np.bool_)  # nothing can be stepped before the first reset
        self._running = False

    def reset(self, seed: int) -> TimeStep:
        """Begin every environment anew; all that follows is decided by `seed` and the actions."""
        results = self._ask("reset", seed)
        self.exactness = weakest(exactness for _, exactness in results)
        self._ended = np.zeros(self.spec.num_envs, np.bool_)
        return first_step(np.concatenate([obs for obs, _ in results]))

    def send(self, actions: np.ndarray) -> None:
        """Begin a step: `actions` are float [env, action] in [-1, 1]."""
        actions = check_actions(self.name, self.spec, actions)
        if self._running or np.count_nonzero(self._ended):
            raise RuntimeError(f"{self.name}: send() must follow recv(), and restart() where an episode has ended")
        self._running = True
        for part, where in zip(self.parts, self._slices, strict=True):
            part.submit("step", actions[where])

    def recv(self) -> TimeStep:
        """Finish the step."""
        results = self._results()
        whole = results[0] if len(results) == 1 else map(np.concatenate, zip(*results, strict=True))
        obs, reward, terminated, truncated = whole
        self._ended = terminated | truncated
        return TimeStep(obs, reward, terminated, truncated, np.zeros(self.spec.num_envs, np.bool_))

    def restart(self, after: TimeStep) -> TimeStep:
        """The step to act on: `after`, which the last `recv` gave, with the environments that ended begun anew."""
        ended = self._ended
        if not np.count_nonzero(ended):
            return after
        for part, where in zip(self.parts, self._slices, strict=True):
            part.submit("restart", ended[where])
        fresh = np.concatenate(self._results())
        self._ended = np.zeros(self.spec.num_envs, np.bool_)
        return begun(after, ended, fresh)

    def snapshot(self) -> Snapshot:
        envs: dict[str, Snapshot] = {}
        for saved in self._ask("snapshot"):
            envs.update(saved)
        return {"ended": self._ended.copy(), "envs": envs}

    def snapshots(self) -> list[Snapshot]:
        """Of each environment alone, as a simulator of it takes them."""
        envs = self.snapshot()["envs"]
        return [envs[str(i)]["env"] for i in range(self.spec.num_envs)]

    def restore(self, snapshot: Snapshot) -> None:
        if len(snapshot["envs"]) != self.spec.num_envs:
            raise UsageError(
                f"{self.name}: the snapshot is of {len(snapshot['envs'])} environments, there are {self.spec.num_envs}"
            )
        self._ask("restore", snapshot["envs"])
        self._ended = np.array(snapshot["ended"], np.bool_)

    def render(self, index: int = 0) -> np.ndarray:
        """What environment `index` looks like, uint8 [height, width, 3]. Raises `RenderUnavailable`."""
        if not 0 <= index < self.spec.num_envs or self._running:
            raise ValueError(f"{self.name}: cannot render environment {index} of {self.spec.num_envs} now")
        part = next(part for part, where in zip(self.parts, self._slices, strict=True) if index < where.stop)
        part.submit("render", index)
        return part.result()

    def close(self) -> None:
        for part in self.parts:
            part.close()
        self.parts, self._slices = [], []

    def _ask(self, method: str, *args: Any) -> list[Any]:
        if self._running:
            raise RuntimeError(f"{self.name}: {method}() must not come between send() and recv()")
        for part in self.parts:
            part.submit(method, *args)
        return self._results()

    def _results(self) -> list[Any]:
        """One result from each part; all are read before an error is raised, so that none is left in a pipe."""
        results, error = [], None
        for part in self.parts:
            try:
                results.append(part.result())
            except Exception as problem:
                error = error or problem
        self._running = False
        if error is not None:
            raise error
        return results


def check_actions(name: str, spec: Spec, actions: np.ndarray) -> np.ndarray:
    """`actions` as float32 [env, action], all finite. Raises `ValueError`."""
    actions = np.asarray(actions, np.float32)
    if actions.shape != (spec.num_envs, spec.action_dim):
        raise ValueError(f"{name}: actions have shape {actions.shape}, expected {(spec.num_envs, spec.action_dim)}")
    if np.count_nonzero(np.isfinite(actions)) != actions.size:
        raise ValueError(f"{name}: the actions of environment {int(np.argwhere(~np.isfinite(actions))[0, 0])} are NaN")
    return actions


def first_step(obs: np.ndarray) -> TimeStep:
    """The step at which every environment begins."""
    count = len(obs)
    no = np.zeros(count, np.bool_)
    return TimeStep(obs, np.zeros(count, np.float32), no, no.copy(), np.ones(count, np.bool_))


def begun(after: TimeStep, ended: np.ndarray, fresh: np.ndarray) -> TimeStep:
    """`after`, where those that have `ended` stand at the `fresh` first observations of their next episodes."""
    return TimeStep(
        obs=np.where(ended[:, None], fresh, after.obs),
        reward=np.where(ended, np.float32(0.0), after.reward),
        terminated=np.asarray(after.terminated) & ~ended,
        truncated=np.asarray(after.truncated) & ~ended,
        first=ended,
    )
