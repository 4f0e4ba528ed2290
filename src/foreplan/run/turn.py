"""A run under way, and one turn of it: a decision in every environment, and the updates that fall due meanwhile.

What a turn does depends on nothing but the `State`, which a checkpoint holds: a resumed run continues bit for bit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from foreplan.agents.experts import Expert
from foreplan.core.errors import Diverged
from foreplan.core.replay import insert
from foreplan.core.types import Agent, Refits, Relabels, Step, VectorEnv
from foreplan.run import warm
from foreplan.run.clock import Pace, Stopwatch
from foreplan.run.display import Display, to_go
from foreplan.run.log import Log
from foreplan.run.randomness import Keys, random_actions
from foreplan.run.settings import Settings
from foreplan.run.signals import StopSignals
from foreplan.run.state import State, extras, put

MakeEnv = Callable[..., VectorEnv]


@dataclass
class Run:
    """A run under way: what is fixed, its state, and its ways to the outside."""

    agent: Agent
    settings: Settings
    out: Path
    env: VectorEnv
    make_env: MakeEnv
    state: State
    log: Log
    display: Display
    watch: Stopwatch
    keys: Keys
    stop: StopSignals = field(default_factory=StopSignals)
    eval_env: VectorEnv | None = None
    metrics: Any = None  # of the update under way, on the device
    pace: Pace = field(init=False)
    extras: dict[str, jax.Array] = field(init=False)  # zeros
    guide: Expert | None = None  # who acts in the seed steps, instead of chance

    def __post_init__(self) -> None:
        self.pace = Pace(self.state.clock, self.watch)
        self.extras = extras(self.agent, self.env.spec)
        if self.state.clock.decisions < self.seed_steps:  # later the run needs it no more, and it may be gone
            self.guide = warm.guide(self.agent, self.settings.warm, self.env.name, self.env.spec)

    @cached_property
    def validate(self) -> Callable[..., Any]:
        """(learner, replay, key) -> the agent's losses on held-out episodes and on the others."""
        return jax.jit(self.agent.hold_out_losses)  # type: ignore[attr-defined]

    @property
    def seed_steps(self) -> int:
        return self.agent.seed_steps(self.env.spec)

    @property
    def novice(self) -> bool:
        """Whether the agent knows nothing yet, so that chance or a guide acts for it."""
        begun = self.settings.warm.init is not None and self.guide is None
        return self.state.clock.decisions < self.seed_steps and not begun

    @property
    def chunk(self) -> int:
        """Updates in one call of `learn`: one number for the whole run, so that it is traced once."""
        adapt = self.settings.adapt
        return max(1, round((adapt.utd_min if adapt.on else self.agent.utd) * self.env.spec.num_envs))

    @property
    def owed(self) -> int:
        """Updates to be made up; none during the seed steps."""
        clock = self.state.clock
        return clock.owed if clock.decisions >= self.seed_steps else 0

    @cached_property
    def relabels(self) -> bool:
        """Whether learning changes the extras that the buffer keeps."""
        return bool(self.extras) and isinstance(self.agent, Relabels)

    @property
    def refit_due(self) -> bool:
        """Once the seed steps are over, and then whenever a multiple of `refit_every` decisions has been passed."""
        clock, spec = self.state.clock, self.env.spec
        if not isinstance(self.agent, Refits) or clock.decisions < self.seed_steps:
            return False
        return "refit" not in clock.done or clock.due("refit", self.agent.refit_every(spec) * spec.action_repeat)

    @property
    def adapt_due(self) -> bool:
        """Whether the UTD ratio is to be looked at; not during the seed steps."""
        clock, adapt = self.state.clock, self.settings.adapt
        if not adapt.on or clock.decisions < self.seed_steps:
            return False
        return clock.due("adapt", adapt.utd_every * self.env.spec.action_repeat)


def turn(run: Run) -> None:
    """One decision in every environment, and the updates that fall due meanwhile."""
    agent, env, state, watch = run.agent, run.env, run.state, run.watch
    clock, owed = state.clock, run.owed
    if owed >= 2 * run.chunk:  # what the seed steps owe is made up while the world stands still
        if clock.decisions < run.seed_steps + clock.num_envs:
            rate = run.pace.read()["updates_per_s"]
            run.display.doing(f"learning from the seed steps, {to_go(owed, rate)}")
        _learn(run)
        await_learning(run)
        return
    run.display.doing("")

    key, kept = run.keys("act", clock.turns), run.extras
    if run.novice:
        actions = warm.led(run.guide, env.spec, state.timestep, key) if run.guide else random_actions(key, env.spec)
    else:
        with watch("act", "act"):
            actions, state.memory, notes = agent.act(state.learner, state.timestep, state.memory, key, True)
        kept = {name: notes[name] for name in run.extras}
        state.meter.add("act", {name: note for name, note in notes.items() if name not in kept})
    await_learning(run)
    with watch("act"):
        sent = np.asarray(jax.device_get(actions))  # the one transfer to the host
    if not np.isfinite(sent).all():
        raise Diverged(
            f"the agent's actions at {clock.env_steps:,} environment steps are not finite: it has diverged;"
            f" {run.out} keeps its newest checkpoint from before"
        )
    with watch("env"):
        env.send(sent)
    if owed >= run.chunk:
        _learn(run)
    with watch("env"):
        after = env.recv()
    with watch("remember", "remember"):
        placed, episode = put((after, state.meter.episode))
        state.replay = insert(
            state.replay,
            Step(
                obs=state.timestep.obs,
                action=actions,
                reward=placed.reward,
                terminated=placed.terminated,
                truncated=placed.truncated,
                next_obs=placed.obs,
                episode=episode,
                extras=kept,
            ),
        )
    clock.turns += 1
    clock.episodes += state.meter.stepped(after)
    with watch("env"):
        timestep = env.restart(after)
    state.timestep = placed if timestep is after else put(timestep)


def pretrain(run: Run) -> None:
    """Updates from demonstrations alone, before the first turn; they count towards no decision."""
    state, number, begun = run.state, run.settings.warm.pretrain, time.perf_counter()
    for start in range(0, number, run.chunk):
        rate = start / max(time.perf_counter() - begun, 1e-9)
        run.display.doing(f"learning from demonstrations, {to_go(number - start, rate)}")
        with run.watch("learn", "learn"):
            key = run.keys("learn", 2**31 + start)
            state.learner, run.metrics = run.agent.learn(state.learner, state.replay, key, run.chunk)
    await_learning(run)
    run.display.doing("")


def _learn(run: Run) -> None:
    """Set `chunk` updates going; they run on the device while Python goes on."""
    state = run.state
    with run.watch("learn", "learn"):
        state.learner, run.metrics = run.agent.learn(
            state.learner, state.replay, run.keys("learn", state.clock.updates), run.chunk
        )
        if run.relabels:
            state.replay = run.agent.relabel(  # type: ignore[attr-defined]
                state.learner, state.replay, run.keys("relabel", state.clock.updates)
            )
    state.clock.updates += run.chunk
    state.meter.add("learn", run.metrics)


def await_learning(run: Run) -> None:
    """Wait for the last update, which acting needs in any case; so the time goes to the account it belongs to."""
    with run.watch("learn"):
        jax.block_until_ready(run.metrics)
