"""What a run's return would be with part after part of what it plans with exchanged for the truth, on the same seeds.

    policy alone   without looking ahead
    run            the agent as it is: its planner in its own model, by the same random numbers as what follows
    dynamics       its planner, where the environment itself says what becomes of a candidate and where it ends
    reward         ... and what it earns
    value          ... and what lies beyond the horizon: the policy is truly followed there for `beyond` decisions;
                   without a policy, the planner looks so many decisions further
    planner        ... and with `times` the candidates
    policy         of a run that acts by its policy: a planner in the environment itself, in place of all the others

What is lost to a part is the return of its stage less that of the stage before: the losses sum to the whole gap.
What the model foretold of the same episodes is compared with what came in `run.foretold`.
"""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.agents.exchanged import Exchanged, PolicyAlone, traits
from foreplan.agents.mpc import MPC, InAgent
from foreplan.core.errors import UsageError
from foreplan.core.types import Learner, LooksAhead, VectorEnv
from foreplan.planners.discrete import Discrete
from foreplan.planners.named import PLANNERS
from foreplan.run.camera import Camera
from foreplan.run.evaluate import play
from foreplan.run.foretold import foretold
from foreplan.run.saved import Saved
from foreplan.run.settings import Diagnosing
from foreplan.sims import truth as sims

Hear = Callable[[int, float, int, int | None], None]  # (episode, return so far, decisions so far, its length if known)


def nobody(episode: int, value: float, decisions: int, length: int | None) -> None:
    pass


@dataclass(frozen=True)
class Episodes:
    """One in each environment; leaves [time, env, ...]."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    after: np.ndarray  # the observation that came
    running: np.ndarray  # whether the episode had not ended before
    terminated: np.ndarray

    def returns(self, decisions: int) -> list[float]:
        """Of the first `decisions`."""
        earned = (self.reward * self.running)[:decisions].astype(np.float64)
        return [float(total) for total in earned.sum(axis=0)]


@dataclass
class Measured:
    """`returns` of every stage that could be computed, by its name, in order."""

    returns: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what could not be computed, and what stands in for what
    foretold: dict[str, Any] = field(default_factory=dict)
    frames: list[np.ndarray] = field(default_factory=list)  # the run's first episode, and what it imagined: `beside`


def diagnose_run(out: Path, settings: Diagnosing, say: Callable[[str], None] = print, hear: Hear = nobody) -> Measured:
    """`diagnose` of the newest whole checkpoint of the run in `out`. Raises `UsageError` where there is none."""
    saved = Saved.open(out, say)
    options: dict[str, Any] = {"action_repeat": saved.settings.action_repeat, "render": settings.video}
    with closing(saved.make_env(saved.settings.env, settings.episodes, **options)) as plant:
        return diagnose(saved.agent, saved.learner(plant), plant, settings, say, hear)


def diagnose(
    agent: Any,
    learner: Learner,
    plant: VectorEnv,
    settings: Diagnosing,
    say: Callable[[str], None] = lambda line: None,
    hear: Hear = nobody,
) -> Measured:
    """One episode in each of the environments of `plant`, in every stage that the agent and the environment allow.
    `say` is told what has been found, `hear` how far the first episode of a stage is."""
    measured = Measured()

    def stage(
        name: str, actor: Any, decisions: int, learner: Learner = learner, camera: Camera | None = None
    ) -> Episodes:
        began = time.perf_counter()
        episodes = record(actor, learner, plant, settings.seed, decisions, hear, camera)
        measured.returns[name] = episodes.returns(settings.decisions)
        measured.seconds[name] = time.perf_counter() - began
        say(f"{name}: return {np.mean(measured.returns[name]):.2f}, {measured.seconds[name]:.0f} s")
        return episodes

    def note(line: str) -> None:
        measured.notes.append(line)
        say(line)

    looks, acted, whole = isinstance(agent, LooksAhead), {}, max(settings.whole, settings.decisions)
    has = traits(agent, learner, plant.reset(settings.seed).obs[0]) if looks else None
    if has is not None and has.policy:
        acted["policy"] = stage("policy alone", PolicyAlone(agent), whole)
    elif looks:
        note("policy alone: the run has no policy")
    camera = Camera() if has is not None and settings.video else None
    acted["run"] = stage("run", MPC(agent.planner, InAgent(agent)) if looks else agent, whole, camera=camera)
    if has is not None:
        measured.foretold = foretold(agent, learner, acted, has, settings.seed)
    if camera is not None:
        measured.frames = beside(camera.frames, measured.foretold["prediction"])
        if camera.why:
            note(f"no video: {camera.why}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            truth = sims.make(plant, settings.inexact)
    except UsageError as error:
        note(f"no oracle: {error}")
        return measured
    for warning in warned:
        note(str(warning.message))
    with closing(truth):
        actors = exchanged(agent, has, truth, settings, note) if has is not None else oracle(plant, settings, note)
        for name, actor in actors.items():
            try:
                stage(name, actor, settings.decisions, learner if looks else ())
            except UsageError as error:
                note(f"{name} and what follows: {error}")
                break
    return measured


def beside(frames: list[np.ndarray], foretold: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """An episode and, to the right of it, what its model imagined. No model here paints pictures: what is shown is the
    moment of the episode whose state is nearest to the imagined one. Nothing where there are no `frames`."""
    pairs = zip(foretold["time"], foretold["like"], strict=True)
    return [np.hstack([frames[time], frames[like]]) for time, like in pairs if frames]


def exchanged(agent: Any, has: Any, truth: Any, settings: Diagnosing, note: Callable[[str], None]) -> dict[str, MPC]:
    """By the name of the part that is exchanged last."""
    planner, longer = agent.planner, agent.planner
    if has.policy:
        note(f"value: the truth is what the policy earns in {settings.beyond} decisions beyond the horizon")
    else:
        longer = resized(planner, horizon=planner.horizon + settings.beyond)
        own = "policy to follow" if has.value else "value"
        note(f"value: the run has no {own}; the truth is a horizon longer by {settings.beyond} decisions")
    given = sum(planner.populations) if hasattr(planner, "populations") else settings.most
    times = max(1, min(settings.times, settings.most // given))
    if times < settings.times:
        note(f"planner: {times} times the candidates, not {settings.times}: --most allows {settings.most} a decision")

    def view(*true: str) -> Exchanged:
        return Exchanged(agent, truth, has, true, settings.beyond)

    return {
        "dynamics": MPC(planner, view()),
        "reward": MPC(planner, view("reward")),
        "value": MPC(longer, view("reward", "value")),
        "planner": MPC(resized(longer, times=times), view("reward", "value")),
    }


def oracle(plant: VectorEnv, settings: Diagnosing, note: Callable[[str], None]) -> dict[str, MPC]:
    """For an agent that acts by its policy: a planner in the environment itself."""
    note("the run acts by its policy, without looking ahead: all of the gap is the policy's")
    planner = Discrete() if plant.spec.discrete else PLANNERS["icem"]
    options: dict[str, Any] = {"inexact": True} if settings.inexact else {}
    return {"policy": MPC.of(plant, planner, **options)}


def resized(planner: Any, times: int = 1, horizon: int | None = None) -> Any:
    """`planner` with `times` the candidates, and with another horizon. Raises `UsageError` where it goes by none."""
    names = {each.name for each in dataclasses.fields(planner)}
    changed: dict[str, Any] = {} if horizon is None or "horizon" not in names else {"horizon": horizon}
    if "planner" in names:
        inner = resized(planner.planner, times, None if changed else horizon)
        return dataclasses.replace(planner, planner=inner, **changed)
    if "num_samples" not in names:
        raise UsageError(f"{type(planner).__name__} goes by no candidates: there are not ten times as many")
    return dataclasses.replace(planner, num_samples=times * planner.num_samples, **changed)


def record(
    actor: Any,
    learner: Learner,
    plant: VectorEnv,
    seed: int,
    decisions: int,
    hear: Hear = nobody,
    camera: Camera | None = None,
) -> Episodes:
    """One episode in each environment, or its first `decisions`; of the first one, pictures of what came of each."""
    rows: list[tuple[Any, ...]] = []
    running, total = np.ones(plant.spec.num_envs, bool), 0.0
    length = min(decisions, plant.spec.episode_length or decisions)
    for now, action, after in itertools.islice(play(actor, learner, plant, seed), decisions):
        rows.append((now.obs, action, after.reward, after.obs, running.copy(), after.terminated))
        total += float(after.reward[0]) * bool(running[0])
        if camera is not None and running[0]:
            camera.shoot(plant)
        hear(0, total, len(rows), length)
        running &= ~(np.asarray(after.terminated) | np.asarray(after.truncated))
        if not running.any():
            break
    return Episodes(*(np.stack([np.asarray(x) for x in column]) for column in zip(*rows, strict=True)))
