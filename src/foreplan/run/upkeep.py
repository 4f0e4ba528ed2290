"""Between two turns of a run: refit, log, evaluate and save what is due."""

import warnings

import jax

from foreplan.core.types import Refits, VectorEnv
from foreplan.run import checkpoint
from foreplan.run.evaluate import evaluate
from foreplan.run.record import save_round
from foreplan.run.signals import Interrupted
from foreplan.run.state import pack
from foreplan.run.turn import Run, await_learning


def upkeep(run: Run) -> bool:
    """Refit, log, evaluate and save what is due; whether the run is finished. Raises Interrupted if asked to stop."""
    clock, settings = run.state.clock, run.settings
    if isinstance(run.agent, Refits) and run.refit_due:
        _refit(run, run.agent)
    if run.adapt_due:
        _adapt(run)
    finished = clock.env_steps >= settings.steps
    if clock.due("log", settings.log_every, finished):
        _log(run)
    if not run.stop.number and clock.due("evaluate", settings.eval_every, finished):
        _evaluate(run)
    if run.stop.number:
        save(run, run.env)
        message = f"saved at {clock.env_steps:,} environment steps; continue with: foreplan resume {run.out}"
        raise Interrupted(run.stop.number, message)
    if clock.due("save", settings.save_every, finished):
        save(run, run.env)
    return finished


def _adapt(run: Run) -> None:
    """Turn the UTD ratio up or down, by what is held out; not before anything was learned."""
    state, clock = run.state, run.state.clock
    clock.did("adapt")
    if clock.updates == 0:
        return
    await_learning(run)
    with run.watch("learn", "validate"):
        key = run.keys("adapt", clock.turns)
        losses = run.validate(state.learner, state.replay, key)
        held, trained = jax.device_get(losses)
    utd, clock.gap = run.settings.adapt.adapted(clock.utd, float(held) / max(float(trained), 1e-9), clock.gap)
    clock.change_utd(utd)
    state.meter.add("adapt", dict(zip(("held_out_loss", "trained_on_loss"), losses, strict=True)))


def _log(run: Run) -> None:
    clock = run.state.clock
    record = {
        "env_steps": clock.env_steps,
        "decisions": clock.decisions,
        "updates": clock.updates,
        "episodes": clock.episodes,
        "utd": clock.updates / max(1, clock.decisions),
        "utd_asked": clock.utd,
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
    await_learning(run)
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


def save(run: Run, env: VectorEnv | None) -> None:
    """Write a checkpoint; without `env` where its state cannot be trusted any more."""
    clock = run.state.clock
    with run.watch("save"):
        clock.did("save")
        parts = pack(run.state, env) | {"log": run.log.snapshot(), "watch": run.watch.snapshot()}
        checkpoint.save(run.out / checkpoint.FOLDER, clock.env_steps, parts, run.settings.keep)


def _refit(run: Run, agent: Refits) -> None:
    """Let the agent fit to all data so far, and hear what it warns of; the world stands still meanwhile."""
    state = run.state
    run.display.doing("fitting the model")
    with run.watch("learn", "refit"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        state.learner, metrics = agent.refit(state.learner, state.replay, run.keys("refit", state.clock.turns))
        jax.block_until_ready(metrics)
    for warning in warned:
        run.display.say(str(warning.message))
    state.meter.add("refit", metrics)
    if "intervention" in run.extras:
        save_round(run.out, agent, state, run.env)
    state.clock.did("refit")
    run.display.doing("")
