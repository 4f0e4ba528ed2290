"""Does an environment keep its promises, and can it really be rolled back? What `foreplan check ENV` runs."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from foreplan.core.errors import EnvError, RenderUnavailable
from foreplan.core.types import Snapshot, Spec, TimeStep, VectorEnv
from foreplan.envs import names
from foreplan.envs.base import AdaptedEnv

Verdict = Literal["bitwise", "physics", "replay", "none"]
Trace = list[tuple[np.ndarray, ...]]
CLOSE = "differs in the last bits"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """What was found. `verdict` is what snapshots were seen to do, "none" where they cannot be trusted."""

    env: str
    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def check(
    name: str, action_repeat: int | None = None, steps: int = 10, longest: int = 2000, seed: int = 0, **options: Any
) -> Report:
    """Act in `name` at random and report. `steps` decisions are compared after each restore; an episode's end is looked
    for during `longest` decisions; `options` go to `make`. Raises `UsageError` where there is no such environment."""
    options = {"action_repeat": action_repeat, **options}
    findings: list[Finding] = []
    try:
        env, other = names.make(name, **options), names.make(name, **options)
    except EnvError as error:
        return Report(name, "none", (Finding("build", False, str(error)),))
    findings.append(Finding("build", True, describe(env)))
    try:
        findings += checks(env, other, steps, longest, seed, lambda *args: elsewhere(name, options, *args))
    except EnvError as error:
        findings.append(Finding("contract", False, str(error)))
    finally:
        env.close()
        other.close()
    return Report(name, judge(env, findings), tuple(findings))


def checks(
    env: VectorEnv, other: VectorEnv, steps: int, longest: int, seed: int, abroad: Callable[..., Trace]
) -> Iterator[Finding]:
    """One finding after another. `env` and `other` are two instances; `abroad` traces in another process."""
    actions = random_actions(env.spec, longest + steps, seed)
    yield rescaling(env)
    yield extremes(env, seed)
    first, again = env.reset(seed), env.reset(seed)
    yield Finding("reset", bool(first.first.all()) and not (first.terminated | first.truncated).any())
    yield same("seed", [tuple_of(first)], [tuple_of(again)], [tuple_of(other.reset(seed))])
    yield same("seeded steps", trace(env, again, actions[:steps]), trace(other, other.reset(seed), actions[:steps]))
    end, finding = find_end(env, actions[:longest], seed)
    yield finding
    yield from rollbacks(env, other, actions, max(0, end - steps // 2), steps, seed, abroad)
    yield picture(env)


def random_actions(spec: Spec, steps: int, seed: int) -> np.ndarray:
    """float32 [steps, env, action]: uniform, or one-hot where actions are discrete."""
    rng = np.random.default_rng(seed)
    if spec.discrete:
        return np.eye(spec.action_dim, dtype=np.float32)[rng.integers(spec.action_dim, size=(steps, spec.num_envs))]
    return rng.uniform(-1.0, 1.0, (steps, spec.num_envs, spec.action_dim)).astype(np.float32)


def rollbacks(
    env: VectorEnv, other: VectorEnv, actions: np.ndarray, at: int, steps: int, seed: int, abroad: Callable[..., Trace]
) -> Iterator[Finding]:
    """Save `at` decisions into the run (shortly before an episode's end, where one was found), go on, go back."""
    here = env.reset(seed)
    for action in actions[:at]:
        here = advance(env, here, action)[1]
    saved = env.snapshot()
    stored = storable(saved)
    yield Finding("snapshot is arrays and JSON", stored is not None)
    if stored is None:
        return
    future = actions[at : at + steps]
    truth = trace(env, here, future)
    yield Finding("snapshot repeats itself", equal(saved, stored), "the snapshot is not changed by what comes after it")
    for attempt in ("rollback", "rollback again"):
        yield same(attempt, truth, replay(env, stored, here, future))
    yield same("rollback in a second instance", truth, replay(other, stored, here, future))
    yield same("rollback in another process", truth, abroad(stored, tuple_of(here), future))


def elsewhere(name: str, options: dict, stored: Snapshot, here: tuple[np.ndarray, ...], future: np.ndarray) -> Trace:
    """`replay` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(build_and_replay, name, options, stored, here, future).result()


def build_and_replay(
    name: str, options: dict, stored: Snapshot, here: tuple[np.ndarray, ...], future: np.ndarray
) -> Trace:
    env = names.make(name, **options)
    try:
        return replay(env, stored, TimeStep(*here), future)
    finally:
        env.close()


def replay(env: VectorEnv, saved: Snapshot, here: TimeStep, future: np.ndarray) -> Trace:
    env.restore(saved)
    return trace(env, here, future)


def trace(env: VectorEnv, here: TimeStep, future: np.ndarray) -> Trace:
    """All that is said from `here` on: each true successor and each step to act on."""
    said: Trace = []
    for action in future:
        after, here = advance(env, here, action)
        said += [tuple_of(after), tuple_of(here)]
    return said


def advance(env: VectorEnv, here: TimeStep, action: np.ndarray) -> tuple[TimeStep, TimeStep]:
    env.send(action)
    after = env.recv()
    return after, env.restart(after)


def tuple_of(step: TimeStep) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(leaf) for leaf in (step.obs, step.reward, step.terminated, step.truncated, step.first))


def same(name: str, truth: Trace, *others: Trace) -> Finding:
    """Whether all traces are equal bit for bit; the detail says where they part, or that they are merely close."""
    for other in others:
        for i, (a, b) in enumerate(zip(truth, other, strict=True)):
            if all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)):
                continue
            close = all(np.allclose(x, y, rtol=1e-3, atol=1e-4) for x, y in zip(a, b, strict=True))
            return Finding(name, False, f"{CLOSE if close else 'differs'} from decision {i // 2 + 1} on")
    return Finding(name, True)


def find_end(env: VectorEnv, actions: np.ndarray, seed: int) -> tuple[int, Finding]:
    """(decisions to the first end, finding): whether episodes end when and as the spec says."""
    here, spec = env.reset(seed), env.spec
    for count, action in enumerate(actions, start=1):
        after, here = advance(env, here, action)
        ended = after.terminated | after.truncated
        if not ended.any():
            continue
        how = "terminated" if after.terminated.any() else "truncated"
        problems = []
        if after.terminated.any() and not spec.terminates:
            problems.append("it terminated, declared was terminates=False")
        if spec.episode_length is not None and count > spec.episode_length:
            problems.append(f"declared was an end after {spec.episode_length}")
        if not (np.asarray(here.first) == ended).all():
            problems.append("restart() did not begin exactly what had ended")
        return count, Finding("episode end", not problems, "; ".join([f"{how} after {count} decisions", *problems]))
    late = spec.episode_length is not None and spec.episode_length <= len(actions)
    return 0, Finding("episode end", not late, f"none within {len(actions)} decisions")


def rescaling(env: VectorEnv) -> Finding:
    """Whether [-1, 1] becomes exactly the environment's own bounds, where they can be seen from here."""
    if env.spec.discrete:
        return Finding("action bounds", True, f"{env.spec.action_dim} discrete actions")
    hosts = [host for host in names.hosts(env) if isinstance(host, AdaptedEnv)]
    for host in hosts:
        low, high = host.action_bounds
        for unit, bound in ((-1.0, low), (1.0, high)):
            if not np.array_equal(host.rescale(np.full(low.size, unit, np.float32)), bound):
                return Finding("action bounds", False, f"{unit:g} does not become {bound}")
    return Finding("action bounds", True, "" if hosts else "not visible from here")


def extremes(env: VectorEnv, seed: int) -> Finding:
    """Whether the environment bears its own largest actions, or each of its discrete ones; an `EnvError` says if it
    does not."""
    here, size = env.reset(seed), env.spec.action_dim
    for action in np.eye(size) if env.spec.discrete else np.array([[-1.0], [0.0], [1.0]]):
        here = advance(env, here, np.broadcast_to(np.float32(action), (env.spec.num_envs, size)))[1]
    return Finding("extreme actions", True)


def picture(env: VectorEnv) -> Finding:
    try:
        return Finding("render", True, "x".join(str(n) for n in env.render().shape))
    except RenderUnavailable as error:
        return Finding("render", True, str(error))


def describe(env: VectorEnv) -> str:
    spec = env.spec
    ends = "terminates" if spec.terminates else "never terminates"
    kind = "discrete actions" if spec.discrete else "actions in [-1, 1]"
    return f"obs {spec.obs_shape}, {spec.action_dim} {kind}, episode {spec.episode_length}, {ends}, {env.exactness}"


def judge(env: VectorEnv, findings: list[Finding]) -> Verdict:
    """The environment's claim, weakened to what was seen."""
    seen = [finding for finding in findings if finding.name.startswith(("rollback", "snapshot"))]
    if len(seen) < 6:
        return "none"
    failed = [finding for finding in seen if not finding.ok]
    if not failed:
        return env.exactness
    return "physics" if all(finding.detail.startswith(CLOSE) for finding in failed) else "none"


def storable(saved: Any) -> Any:
    """A snapshot after a trip through storage: arrays as they are, the rest through JSON. None where that fails."""
    try:
        return stored(saved)
    except (TypeError, ValueError):
        return None


def stored(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects")
        return value.copy()
    if isinstance(value, dict):
        return {str(key): stored(item) for key, item in value.items()}
    return json.loads(json.dumps(value))


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b or (a != a and b != b)
