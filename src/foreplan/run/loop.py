"""The loop of training. It knows the protocols of agent and environment, and nothing else of either.

    while env_steps < steps:
        learner = agent.refit(...)                                 # now and then, where the agent asks for it
        action = agent.act(...)                                    # uniform during the seed steps
        env.send(action)                                           # the world turns ...
        learner = agent.learn(...)                                 # ... while we learn
        after = env.recv()
        replay, timestep = insert(replay, ...), env.restart(after)

A turn stands in `turn.py`, what happens between two turns in `upkeep.py`.
"""

from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from foreplan.core.errors import EnvError, UsageError
from foreplan.core.machine import keep_memory, processor
from foreplan.core.types import Agent, VectorEnv
from foreplan.envs import names
from foreplan.run import checkpoint
from foreplan.run.clock import Stopwatch
from foreplan.run.display import Display, Plain
from foreplan.run.experts import taught
from foreplan.run.log import Log, summary_writer
from foreplan.run.randomness import Keys
from foreplan.run.settings import Settings, check_actions, check_agent, check_data, read_config, write_config
from foreplan.run.state import begin, unpack
from foreplan.run.turn import MakeEnv, Run, pretrain, turn
from foreplan.run.upkeep import save, upkeep
from foreplan.run.warm import prepared


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
    keep_memory()
    agent = prepared(agent, settings.warm)
    check_agent(agent, settings)
    if settings.tensorboard:
        summary_writer()  # which raises, where it is not installed, before anything is written
    with (
        closing(_training_env(settings, make_env)) as env,
        display or Plain() as display,
        _precision(settings),
    ):
        check_actions(agent, settings.env, env.spec)
        check_data(agent, settings, env.spec)
        lessons = taught(agent, env)
        watch, keys = Stopwatch(display.compiling), Keys(settings.seed)
        with watch("start", "init"):
            state = begin(lessons, env, settings, keys)
        write_config(out, agent, settings, name)
        with closing(Log(out, settings.tensorboard)) as log:
            run = Run(lessons, settings, out, env, make_env, state, log, display, watch, keys)
            pretrain(run)
            _train(run)
    return out


def resume(
    out: Path | str, *, steps: int | None = None, make_env: MakeEnv = names.make, display: Display | None = None
) -> Path:
    """Continue a run from its newest whole checkpoint, to `steps` environment steps if given. Raises as `train`."""
    keep_memory()
    out = Path(out)
    agent, settings, config = read_config(out)
    if steps is not None:
        settings = replace(settings, steps=steps)
        write_config(out, agent, settings, config["name"])
    with (
        closing(_training_env(settings, make_env)) as env,
        display or Plain() as display,
        closing(Log(out, settings.tensorboard)) as log,
        _precision(settings),
    ):
        agent = taught(agent, env)
        watch, keys = Stopwatch(display.compiling), Keys(settings.seed)
        if checkpoint.all_checkpoints(out / checkpoint.FOLDER):
            path = checkpoint.newest_whole(out / checkpoint.FOLDER, display.say)
            parts = checkpoint.load(path)
            state = unpack(parts, agent, env, settings)
            watch.restore(parts["watch"])
            log.restore(parts["log"])
            display.say(f"continuing from {path}{_lost(env, parts)}{_moved(config)}")
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


def _precision(settings: Settings) -> AbstractContextManager[Any]:
    """In which precision networks multiply, where the settings say it."""
    return jax.default_matmul_precision(settings.precision) if settings.precision else nullcontext()


def _train(run: Run) -> None:
    run.display.begin(run.state.clock, run.watch, run.settings.steps)
    with run.stop:
        try:
            while not upkeep(run):
                turn(run)
        except EnvError:
            save(run, None)  # what the environment was doing is lost, what was learned is not
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


def _moved(config: dict[str, Any]) -> str:
    began, now = config["hardware"].get("processor"), processor()
    return "" if began in (None, now) else f"; it began on another processor, which may round otherwise: {began}"
