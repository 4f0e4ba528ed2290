"""Data sets from the world: episodes that an expert acts, the rounds of a run that asked one, and any run's buffer."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.types import Spec, VectorEnv
from foreplan.data import npz
from foreplan.data.dataset import About, Dataset, Source, demonstration
from foreplan.envs import names
from foreplan.run import checkpoint, experts
from foreplan.run.evaluate import MAX_DECISIONS
from foreplan.run.randomness import Keys
from foreplan.run.settings import read_config
from foreplan.run.state import State, put

LABELS = ("extras/label", "extras/labelled")  # of a checkpoint's buffer


def record(
    env: str,
    expert: str,
    episodes: int,
    seed: int = 0,
    action_repeat: int | None = None,
    planner: Any = None,
    noise: float = 0.0,
    each: Callable[[int, float, int], None] = lambda episode, value, decisions: None,
) -> Dataset:
    """`episodes` episodes in which the expert acts. Where it does not know what to do, nothing moves (an action of
    zero, or the first discrete one) and the step has no label. `each` hears of every episode: (number, return, length).
    `noise`, a standard deviation, disturbs continuous actions but not their labels, so that the expert shows how it
    recovers (Laskey et al. 2017, "DART"). Raises UsageError."""
    if not 0.0 <= noise < float("inf"):
        raise UsageError(f"noise is {noise}; accepted: finite numbers from 0")
    random = np.random.default_rng(seed)
    steps: list[dict[str, np.ndarray]] = []
    with closing(names.make(env, action_repeat=action_repeat)) as plant:
        asked, keys, spec = experts.make(expert, plant, planner), Keys(seed), plant.spec
        if noise and spec.discrete:
            raise UsageError(f"the actions of {env} are discrete: there is no noise to be added to them")
        timestep, memory = plant.reset(seed), asked.memory(spec)
        episode, value, begun = 0, 0.0, 0
        while episode < episodes:
            label, known, memory = asked.label(put(timestep), memory, keys("act", len(steps)), np.ones(1, np.bool_))
            action = disturbed(label, noise, random) if known[0] else _idle(spec)
            plant.send(action)
            after = plant.recv()
            ended = bool(after.terminated[0])
            cut = bool(after.truncated[0]) or len(steps) - begun + 1 == MAX_DECISIONS
            steps.append(
                {
                    "obs": np.array(timestep.obs[0]),
                    "action": np.array(action[0]),
                    "reward": np.array(after.reward[0]),
                    "terminated": np.array(ended),
                    "truncated": np.array(cut and not ended),
                    "next_obs": np.array(after.obs[0]),
                    "episode": np.array(episode),
                    "label": np.array(label[0] if known[0] else action[0]),
                    "labelled": np.array(known[0]),
                }
            )
            value += float(after.reward[0])
            if ended or cut:
                each(episode, value, len(steps) - begun)
                episode, value, begun = episode + 1, 0.0, len(steps)
            timestep = plant.restart(after)
    arrays = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    about = About(env, spec.discrete, spec.action_repeat, (Source(asked.who, "expert", time.time()),))
    return demonstration(about, **arrays)


def disturbed(action: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    return np.clip(action + noise * random.normal(size=action.shape), -1.0, 1.0).astype(np.float32)


def _idle(spec: Spec) -> np.ndarray:
    return np.eye(1, spec.action_dim, dtype=np.float32) if spec.discrete else np.zeros((1, spec.action_dim), np.float32)


def replayed(out: Path, say: Callable[[str], None] = print) -> Dataset:
    """What the newest whole checkpoint of the run in `out` has in its buffer; without labels every action is its own.
    Raises UsageError where there is no such run."""
    _, settings, _ = read_config(out)
    saved = checkpoint.load(checkpoint.newest_whole(out / checkpoint.FOLDER, say), "replay")["replay"]
    with closing(names.make(settings.env, action_repeat=settings.action_repeat)) as env:
        about = About(settings.env, env.spec.discrete, env.spec.action_repeat, (Source(f"run:{out}"),))
    flat = _one_after_another(saved)
    labels: dict[str, Any] = {name.removeprefix("extras/"): array for name, array in flat.items() if name in LABELS}
    data = demonstration(about, **{name: flat[name] for name in npz.REQUIRED})
    return dataclasses.replace(data, **labels)


def save_round(out: Path, agent: Any, state: State, env: VectorEnv) -> Path | None:
    """Write what was stored since the last refit as a round of the run in `out`; None where that is nothing."""
    clock, replay, spec = state.clock, state.replay, env.spec
    rows = (clock.env_steps - clock.done.get("refit", 0)) // (spec.action_repeat * spec.num_envs)
    size, head = (int(x) for x in jax.device_get((replay.size, replay.head)))
    count = min(rows, size)
    if not count:
        return None
    where = (head - count + np.arange(count)) % replay.capacity
    steps = jax.device_get(jax.tree.map(lambda ring: ring[where], replay.steps))
    flat = _one_after_another({**{n: getattr(steps, n) for n in npz.REQUIRED}, **steps.extras})
    number = -(-clock.decisions // agent.refit_every(spec)) - 1
    who = "" if agent.teacher is None else agent.teacher.who
    about = About(env.name, spec.discrete, spec.action_repeat, (Source(who, f"round-{number:03d}", time.time()),))
    kept: dict[str, Any] = {name: flat[name] for name in (*npz.REQUIRED, "label", "labelled", "intervention")}
    data = Dataset(**kept, source=np.where(flat["labelled"], 0, -1).astype(np.int32), about=about)
    return npz.save(out / npz.FOLDER / f"round-{number:03d}" / npz.ROUND_FILE, data)


def _one_after_another(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """[time, env, ...] as [step, ...]: one environment after the other, so that the steps of an episode stand
    together."""
    return {name: np.moveaxis(np.asarray(a), 1, 0).reshape(-1, *a.shape[2:]) for name, a in arrays.items()}
