"""Model predictive control without learning, episode by episode: in every state plan ahead, do the first action only.

The model is the environment itself, rolled back, or what a run has learned; the actions are always done in the real
environment. What was planned is kept beside what came.
"""

import dataclasses
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.agents.composite import Composite
from foreplan.agents.mpc import MPC, InAgent
from foreplan.core.errors import UsageError
from foreplan.core.types import Learner, LooksAhead, VectorEnv
from foreplan.envs import names as envs
from foreplan.planners.risk import Mean, MeanMinusDeviation
from foreplan.run.camera import Camera, write_video
from foreplan.run.evaluate import MAX_DECISIONS, Evaluation
from foreplan.run.parts import Kind, Part, is_part, load_all, together
from foreplan.run.randomness import Keys
from foreplan.run.saved import Saved
from foreplan.run.settings import MAX_SEED, Planning, check_actions, encode, hardware, refuse_non_finite, versions
from foreplan.run.state import put
from foreplan.sims.mujoco import Task
from foreplan.worlds.composed import Parts
from foreplan.worlds.known import check

LOOK = 25  # decisions between two plans that are kept to be drawn
Hear = Callable[[int, float, int, int | None], None]  # (episode, return so far, decisions so far, its length if known)


@dataclass
class Episode:
    """What was done, and of every LOOK-th decision what was planned and foretold: written as one npz file.

    obs [decision, obs], action [decision, action], reward [decision]; planned_at [plan], planned_action
    [plan, horizon, action], foretold_reward [plan, horizon], and foretold_obs [plan, horizon, obs] where the model says
    what will be observed. What lies beyond the episode's end is NaN.
    """

    kept: dict[str, list[Any]] = field(default_factory=dict)
    camera: Camera = field(default_factory=Camera)

    def keep(self, **items: Any) -> None:
        for name, item in items.items():
            self.kept.setdefault(name, []).append(item)


def plan_episodes(
    settings: Planning,
    planner: Any,
    out: Path | None = None,
    hear: Hear = lambda episode, value, decisions, length: None,
    say: Callable[[str], None] = print,
) -> Evaluation:
    """Episodes in which `planner` looks ahead. Written into the directory `out`, where one is given, as config.json,
    result.json, episodes/episode-<n>.npz and videos/episode-0.mp4. Raises `UsageError` for what cannot be planned."""
    envs.validate(settings.env)
    refuse_non_finite(planner, "options")
    saved = None if settings.model == "sim" else open_model(settings)
    parts, asked = exchanged(settings)
    if settings.caution and not {"dynamics", "value"} & parts.keys():
        raise UsageError(
            f"caution is {settings.caution:g}, but no part has several networks to differ: give --dynamics or --value"
        )
    planner = asking(planner, parts, say)
    repeat = asked.action_repeat if saved is None else saved.settings.action_repeat
    plant = envs.make(settings.env, action_repeat=repeat, render=settings.video)
    begin, returns, lengths = time.perf_counter(), [], []
    try:
        check_actions(planner, settings.env, plant.spec)
        for part in parts.values():
            part.check(settings.env, plant.spec)
        if "dynamics" in parts:
            agent, learner = in_parts(asked, parts, planner, plant)
        elif saved is None:
            agent, learner = in_simulator(asked, parts, planner, plant, say)
        else:
            agent, learner = in_run(saved, planner, plant)
        for number in range(settings.episodes):
            film = settings.video and number == 0
            episode = play(agent, learner, plant, settings.seed + number, film, lambda *news, n=number: hear(n, *news))
            returns.append(float(np.sum(episode.kept["reward"])))
            lengths.append(len(episode.kept["reward"]))
            if out is not None:
                write(out, number, episode, say)
        steps = sum(lengths) * plant.spec.action_repeat
        result = Evaluation(settings.seed, returns, lengths, steps, time.perf_counter() - begin)
        if out is not None:
            write_result(out, settings, parts, planner, plant, result)
    finally:
        plant.close()
    return result


def exchanged(settings: Planning) -> tuple[dict[Kind, Part], Planning]:
    """The parts that are asked for, and the settings without them; their action repeat is taken where none is given."""
    own = settings.reward is not None and not is_part(settings.reward)  # a function, or the task's own
    paths: dict[Kind, str | None] = {
        "dynamics": settings.dynamics,
        "reward": None if own else settings.reward,
        "continuation": settings.continuation,
        "value": settings.value,
        "policy": settings.policy,
    }
    parts = load_all(settings.parts, paths)
    if own:
        parts.pop("reward", None)
    if "dynamics" in parts and "reward" not in parts and settings.reward in (None, "own"):
        raise UsageError("learned dynamics do not say the reward: give --reward PART, or module:function")
    repeats = [part.spec.action_repeat for part in parts.values() if part.spec.action_repeat]
    repeat = settings.action_repeat or (repeats[0] if repeats else None)
    return parts, replace(settings, action_repeat=repeat, reward=settings.reward if own else None)


def asking(planner: Any, parts: dict[Kind, Part], say: Callable[[str], None]) -> Any:
    """The planner, with a quarter of its candidates from the policy where there is one and none were asked for."""
    if "policy" not in parts or getattr(planner, "num_proposals", False):
        return planner
    if not hasattr(planner, "num_proposals") or not hasattr(planner, "num_samples"):
        say(f"{type(planner).__name__} takes no proposals: the policy is not used")
        return planner
    return replace(planner, num_proposals=max(1, planner.num_samples // 4))


def in_parts(settings: Planning, parts: dict[Kind, Part], planner: Any, plant: VectorEnv) -> tuple[MPC, Learner]:
    """In learned dynamics, with every other part that there is. A function that is the reward is one of (obs, action,
    next obs), traced by JAX."""
    name = settings.reward or "learned"
    if settings.terminated is not None or settings.inexact or settings.coarse > 1:
        raise UsageError(
            "terminated, inexact and coarse belong to a simulator: learned dynamics have their own steps, "
            "and take --continuation PART"
        )
    check(name, "reward", plant.spec)
    risk = MeanMinusDeviation(settings.caution) if settings.caution else Mean()
    return MPC(planner, InAgent(Composite(reward=name, risk=risk))), together(parts)


def cautious(parts: Parts, caution: float) -> Parts:
    return parts if parts.value is None else replace(parts, value=replace(parts.value, caution=caution))


def in_simulator(
    settings: Planning, parts: dict[Kind, Part], planner: Any, plant: VectorEnv, say: Callable[[str], None]
) -> tuple[MPC, Learner]:
    options: dict[str, Any] = {"inexact": True} if settings.inexact else {}
    if settings.coarse > 1:
        options["coarse"] = settings.coarse
    if parts:
        options["parts"] = cautious(together(parts), settings.caution)
    if settings.reward is not None:
        functions = {"reward": settings.reward, "terminated": settings.terminated}
        options["task"] = Task(**{kind: envs.factory(name, kind) for kind, name in functions.items() if name})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        agent = MPC.of(plant, planner, **options)
    for warning in warned:
        say(str(warning.message))
    return agent, options.get("parts", ())


def open_model(settings: Planning) -> Saved:
    """The run whose model is planned in. Raises `UsageError` where it is of another environment or has no model."""
    saved = Saved.open(Path(settings.model))
    if saved.settings.env != settings.env:
        raise UsageError(f"the model in {settings.model} is of {saved.settings.env}, not of {settings.env}")
    if settings.action_repeat not in (None, saved.settings.action_repeat):
        learned = saved.settings.action_repeat or "the default"
        raise UsageError(f"the model in {settings.model} has learned with action repeat {learned}")
    if settings.reward is not None or settings.inexact or settings.coarse > 1:
        raise UsageError("reward, terminated, inexact and coarse belong to a simulator: a learned model has its own")
    if not isinstance(saved.agent, LooksAhead):
        raise UsageError(f"{settings.model}: {type(saved.agent).__name__} has learned no model that can be planned in")
    return saved


def in_run(saved: Saved, planner: Any, plant: VectorEnv) -> tuple[MPC, Learner]:
    assert isinstance(saved.agent, LooksAhead)
    return MPC(planner, InAgent(saved.agent)), saved.learner(plant)


def play(agent: MPC, learner: Learner, plant: VectorEnv, seed: int, film: bool, hear: Callable[..., None]) -> Episode:
    """One episode on a seed that training never sees."""
    episode, keys, memory = Episode(), Keys(seed), agent.memory(plant.spec)
    timestep, total = plant.reset(MAX_SEED + 1 + seed), 0.0
    for turn in range(MAX_DECISIONS):
        key = keys("evaluate", turn)
        actions, memory, _ = agent.act(learner, put(timestep), memory, key, False)
        if turn % LOOK == 0:
            planned, foretold = agent.foretell(learner, timestep, memory, key)
            names = {f"foretold_{name}": array for name, array in foretold.items()}
            episode.keep(planned_at=turn, planned_action=planned, **names)
        if film:
            episode.camera.shoot(plant)
        plant.send(np.asarray(actions))
        after = plant.recv()
        episode.keep(obs=timestep.obs[0], action=np.asarray(actions[0]), reward=np.asarray(after.reward[0]))
        total += float(after.reward[0])
        hear(total, turn + 1, plant.spec.episode_length)
        if after.terminated[0] or after.truncated[0]:
            break
        timestep = after
    return episode


def rollouts(planner: Any, result: Evaluation) -> int | None:
    """Candidates that were rolled out in all; None where a planner does not go by candidates."""
    populations = getattr(planner, "populations", None)
    return None if populations is None else sum(populations) * sum(result.lengths)


def write(out: Path, number: int, episode: Episode, say: Callable[[str], None]) -> None:
    (out / "episodes").mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.stack(items) for name, items in episode.kept.items()}
    np.savez_compressed(out / "episodes" / f"episode-{number}.npz", **arrays)
    if episode.camera.frames:
        write_video(out / "videos" / f"episode-{number}.mp4", episode.camera.frames)
    elif episode.camera.why:
        say(f"no video: {episode.camera.why}")


def write_result(
    out: Path, settings: Planning, parts: dict[Kind, Part], planner: Any, plant: VectorEnv, result: Evaluation
) -> None:
    layout = getattr(plant, "layout", None) or getattr(envs.hosts(plant)[0], "layout", None)
    config = {
        "planner": encode(planner),
        "run": dataclasses.asdict(settings) | {"action_repeat": plant.spec.action_repeat},
        "parts": {kind: {"env": part.env, "data": part.data} for kind, part in parts.items()},
        "obs": [] if layout is None else [layout.field(i) for i in range(layout.size)],
        "versions": versions(),
        "hardware": hardware(),
    }
    for name, document in (("config.json", config), ("result.json", result.record())):
        (out / name).write_text(json.dumps(document, indent=2) + "\n")
