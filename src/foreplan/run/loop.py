"""The loop of training. It knows the protocols of agent and environment, and nothing else of either.

    while env_steps < steps:
        learner = agent.refit(...)                                 # now and then, where the agent asks for it
        action = agent.act(...)                                    # uniform during the seed steps
        env.send(action)                                           # the world turns ...
        learner = agent.learn(...)                                 # ... while we learn
        after = env.recv()
        replay, timestep = insert(replay, ...), env.restart(after)

What a turn does depends on nothing but the `State`, which a checkpoint holds: a resumed run continues bit for bit.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from foreplan.core.errors import Diverged, EnvError, UsageError
from foreplan.core.replay import insert
from foreplan.core.types import Agent, Refits, Step, VectorEnv
from foreplan.envs import names
from foreplan.run import checkpoint
from foreplan.run.clock import Pace, Stopwatch
from foreplan.run.display import Display, Plain
from foreplan.run.evaluate import evaluate
from foreplan.run.experts import taught
from foreplan.run.log import Log, summary_writer
from foreplan.run.randomness import Keys, random_actions
from foreplan.run.settings import Settings, check_actions, check_agent, read_config, write_config
from foreplan.run.signals import Interrupted, StopSignals
from foreplan.run.state import State, begin, extras, pack, put, unpack

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

    def __post_init__(self) -> None:
        self.pace = Pace(self.state.clock, self.watch)
        self.extras = extras(self.agent, self.env.spec)

    @property
    def seed_steps(self) -> int:
        return self.agent.seed_steps(self.env.spec)

    @property
    def chunk(self) -> int:
        """Updates in one call of `learn`: one number for the whole run, so that it is traced once."""
        return max(1, round(self.agent.utd * self.env.spec.num_envs))

    @property
    def owed(self) -> int:
        """Updates to be made up; none during the seed steps."""
        clock = self.state.clock
        return clock.owed(self.agent.utd) if clock.decisions >= self.seed_steps else 0

    @property
    def refit_due(self) -> bool:
        """Once the seed steps are over, and then whenever a multiple of `refit_every` decisions has been passed."""
        clock, spec = self.state.clock, self.env.spec
        if not isinstance(self.agent, Refits) or clock.decisions < self.seed_steps:
            return False
        return "refit" not in clock.done or clock.due("refit", self.agent.refit_every(spec) * spec.action_repeat)


def train(
    agent: Agent,
    settings: Settings,
    out: Path | str,
    *,
    name: str = "agent",
    make_env: MakeEnv = names.make,
    display: Display | None = None,
) -> Path:
    """Train `agent` and write the run directory `out`, which must not exist. Returns `out`.

    Raises UsageError for bad input, Interrupted after SIGINT or SIGTERM, and EnvError where the environment fails;
    in the last two cases a checkpoint is saved first.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise UsageError(f"{out} exists; continue it with `foreplan resume {out}`, or choose another with --out")
    check_agent(agent)
    if settings.tensorboard:
        summary_writer()  # which raises, where it is not installed, before anything is written
    with closing(_training_env(settings, make_env)) as env, display or Plain() as display:
        check_actions(agent, settings.env, env.spec)
        lessons = taught(agent, env)
        watch, keys = Stopwatch(display.compiling), Keys(settings.seed)
        with watch("start", "init"):
            state = begin(lessons, env, settings, keys)
        write_config(out, agent, settings, name)
        with closing(Log(out, settings.tensorboard)) as log:
            _train(Run(lessons, settings, out, env, make_env, state, log, display, watch, keys))
    return out


def resume(
    out: Path | str, *, steps: int | None = None, make_env: MakeEnv = names.make, display: Display | None = None
) -> Path:
    """Continue a run from its newest whole checkpoint, to `steps` environment steps if given. Raises as `train`."""
    out = Path(out)
    agent, settings, config = read_config(out)
    if steps is not None:
        settings = replace(settings, steps=steps)
        write_config(out, agent, settings, config["name"])
    with (
        closing(_training_env(settings, make_env)) as env,
        display or Plain() as display,
        closing(Log(out, settings.tensorboard)) as log,
    ):
        agent = taught(agent, env)
        watch, keys = Stopwatch(display.compiling), Keys(settings.seed)
        if checkpoint.all_checkpoints(out / checkpoint.FOLDER):
            path = checkpoint.newest_whole(out / checkpoint.FOLDER, display.say)
            parts = checkpoint.load(path)
            state = unpack(parts, agent, env, settings)
            watch.restore(parts["watch"])
            log.restore(parts["log"])
            display.say(f"continuing from {path}{_lost(env, parts)}")
        else:  # it was stopped before its first checkpoint
            state = begin(agent, env, settings, keys)
            log.restore({"metrics": 0, "evaluations": 0})
        _train(Run(agent, settings, out, env, make_env, state, log, display, watch, keys))
    return out


def _training_env(settings: Settings, make_env: MakeEnv) -> VectorEnv:
    asynchronous = {"auto": "auto", "yes": True, "no": False}[settings.asynchronous]
    return make_env(
        settings.env, num_envs=settings.num_envs, action_repeat=settings.action_repeat, asynchronous=asynchronous
    )


def _train(run: Run) -> None:
    run.display.begin(run.state.clock, run.watch, run.settings.steps)
    with run.stop:
        try:
            while not _upkeep(run):
                _turn(run)
        except EnvError:
            _save(run, None)  # what the environment was doing is lost, what was learned is not
            raise
        finally:
            if run.eval_env is not None:
                run.eval_env.close()


def _lost(env: VectorEnv, parts: dict[str, Any]) -> str:
    if "snapshot" not in parts["env"]:
        return "; the environment's state is lost: new episodes begin"
    if env.exactness == "replay":
        return "; the environment repeats its episode's actions to get there, exact only if it is deterministic"
    return ""


# ---------------------------------------------------------------------- a turn
def _turn(run: Run) -> None:
    """One decision in every environment, and the updates that fall due meanwhile."""
    agent, env, state, watch = run.agent, run.env, run.state, run.watch
    clock, owed = state.clock, run.owed
    if owed >= 2 * run.chunk:  # what the seed steps owe is made up while the world stands still
        run.display.doing(f"learning from the seed steps, {owed:,} updates to go")
        _learn(run)
        _await_learning(run)
        return
    run.display.doing("")

    key, kept = run.keys("act", clock.turns), run.extras
    if clock.decisions < run.seed_steps:
        actions = random_actions(key, env.spec)
    else:
        with watch("act", "act"):
            actions, state.memory, notes = agent.act(state.learner, state.timestep, state.memory, key, True)
        kept = {name: notes[name] for name in run.extras}
        state.meter.add("act", {name: note for name, note in notes.items() if name not in kept})
    _await_learning(run)
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


def _learn(run: Run) -> None:
    """Set `chunk` updates going; they run on the device while Python goes on."""
    state = run.state
    with run.watch("learn", "learn"):
        state.learner, run.metrics = run.agent.learn(
            state.learner, state.replay, run.keys("learn", state.clock.updates), run.chunk
        )
    state.clock.updates += run.chunk
    state.meter.add("learn", run.metrics)


def _refit(run: Run, agent: Refits) -> None:
    """Let the agent fit to all data so far; the world stands still meanwhile."""
    state = run.state
    run.display.doing("fitting the model")
    with run.watch("learn", "refit"):
        state.learner, metrics = agent.refit(state.learner, state.replay, run.keys("refit", state.clock.turns))
        jax.block_until_ready(metrics)
    state.meter.add("refit", metrics)
    state.clock.did("refit")
    run.display.doing("")


def _await_learning(run: Run) -> None:
    """Wait for the last update, which acting needs in any case; so the time goes to the account it belongs to."""
    with run.watch("learn"):
        jax.block_until_ready(run.metrics)


# ---------------------------------------------------------------------- between turns
def _upkeep(run: Run) -> bool:
    """Refit, log, evaluate and save what is due; whether the run is finished. Raises Interrupted if asked to stop."""
    clock, settings = run.state.clock, run.settings
    if isinstance(run.agent, Refits) and run.refit_due:
        _refit(run, run.agent)
    finished = clock.env_steps >= settings.steps
    if clock.due("log", settings.log_every, finished):
        _log(run)
    if not run.stop.number and clock.due("evaluate", settings.eval_every, finished):
        _evaluate(run)
    if run.stop.number:
        _save(run, run.env)
        message = f"saved at {clock.env_steps:,} environment steps; continue with: foreplan resume {run.out}"
        raise Interrupted(run.stop.number, message)
    if clock.due("save", settings.save_every, finished):
        _save(run, run.env)
    return finished


def _log(run: Run) -> None:
    clock = run.state.clock
    record = {
        "env_steps": clock.env_steps,
        "decisions": clock.decisions,
        "updates": clock.updates,
        "episodes": clock.episodes,
        "utd": clock.updates / max(1, clock.decisions),
        "wall_s": run.watch.wall,
        **run.pace.lap(),
        **run.state.meter.read(),
    }
    clock.did("log")
    run.log.write(record)
    run.display.logged(record)


def _evaluate(run: Run) -> None:
    """Evaluate, unless asked to stop meanwhile; then the evaluation stays due."""
    clock, settings = run.state.clock, run.settings
    if run.eval_env is None:
        run.eval_env = run.make_env(settings.env, num_envs=settings.eval_episodes, action_repeat=settings.action_repeat)
    _await_learning(run)
    run.display.doing("evaluating")
    result = evaluate(
        run.agent, run.state.learner, run.eval_env, 0, run.watch, interrupted=lambda: run.stop.number is not None
    )
    run.display.doing("")
    if result is None:
        return
    clock.did("evaluate")
    record = {
        "env_steps": clock.env_steps,
        "decisions": clock.decisions,
        "updates": clock.updates,
        "seed": result.seed,
        "returns": result.returns,
        "lengths": result.lengths,
        "wall_s": run.watch.wall,
    }
    run.log.evaluation(record)
    run.display.evaluated(record)


def _save(run: Run, env: VectorEnv | None) -> None:
    """Write a checkpoint; without `env` where its state cannot be trusted any more."""
    clock = run.state.clock
    with run.watch("save"):
        clock.did("save")
        parts = pack(run.state, env) | {"log": run.log.snapshot(), "watch": run.watch.snapshot()}
        checkpoint.save(run.out / checkpoint.FOLDER, clock.env_steps, parts, run.settings.keep)
