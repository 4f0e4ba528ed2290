"""`foreplan fit DATASET --latent SIZE`: a latent world from recorded data alone, as a run directory.

Its dynamics are fitted by latent consistency: what they foretell is to be what the encoder says of the next
observation. Dynamics, reward, continuation, value (by TD) and policy see nothing but the encoder's latents, so they are
fitted together, as TD-MPC2 does, and stand in one run: to plan in (`plan --model`), to evaluate, to begin from.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_parts import Learner
from foreplan.core.errors import UsageError
from foreplan.core.replay import Replay
from foreplan.data.dataset import Dataset
from foreplan.envs import names
from foreplan.run.checkpoint import FOLDER, save
from foreplan.run.clock import Stopwatch
from foreplan.run.display import Plain, to_go
from foreplan.run.log import Log, Meter
from foreplan.run.randomness import Keys
from foreplan.run.settings import Settings, write_config
from foreplan.run.state import begin, pack
from foreplan.run.warm import buffer

CHUNK = 250  # updates between two looks at what is held out


def fit_latent(
    agent: TDMPC2,
    data: Dataset,
    name: str,
    out: Path,
    *,
    updates: int,
    hold_out: float,
    seed: int,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the run directory `out` after so many updates from the data called `name`, a share of whose episodes is
    held out. Raises UsageError for data without rewards or environment, or of another space than that has."""
    if updates < CHUNK:
        raise UsageError(f"updates is {updates}; accepted: whole numbers from {CHUNK} up")
    if out.exists():
        raise UsageError(f"{out} exists; choose another with --out")
    if not data.about.rewards or not data.about.env:
        missing = "holds no rewards" if data.about.env else "names no environment"
        raise UsageError(f"{name} {missing}, so that no latent world can be fitted")
    settings = Settings(data.about.env, steps=1, seed=seed, action_repeat=data.about.action_repeat or None)
    with closing(names.make(settings.env, action_repeat=settings.action_repeat)) as env:
        data.check_spec(env.spec, env.name, name)
        keys, watch = Keys(seed), Stopwatch(Plain().compiling)
        state = begin(agent, env, settings, keys)
        demos = replace(buffer(data, state.replay), hold_out=hold_out)  # as which they also say what to do
        write_config(out, agent, settings, "tdmpc2")
        with closing(Log(out)) as log:
            lessons = replace(state.replay, demos=demos)
            fits = fitted(agent, state.learner, lessons, updates, keys, watch)
            for state.learner, record in fits:
                log.write(record)
                parts = pack(state, env) | {"log": log.snapshot(), "watch": watch.snapshot()}
                save(out / FOLDER, 0, parts, keep=1)  # whoever ends it here has what was fitted until then
                say(described(record, updates, watch))
    return out


def fitted(
    agent: TDMPC2, learner: Learner, lessons: Replay, updates: int, keys: Keys, watch: Stopwatch
) -> Iterator[tuple[Learner, dict[str, Any]]]:
    """The learner after every `CHUNK` updates, and a line of its log: no step of an environment is taken."""
    judge, meter = jax.jit(agent.hold_out_losses), Meter(1)
    for done in range(CHUNK, updates + 1, CHUNK):
        with watch("learn", "learn"):
            learner, metrics = jax.block_until_ready(agent.learn(learner, lessons, keys("learn", done), CHUNK))
        with watch("learn", "validate"):
            held, trained = jax.block_until_ready(judge(learner, lessons.demos, keys("adapt", done)))
        meter.add("learn", metrics | {"held_out_loss": held, "trained_on_loss": trained})
        counters = {"env_steps": 0, "decisions": 0, "updates": done, "episodes": 0, "utd": 0.0}
        yield learner, counters | {"wall_s": watch.wall, "compile_s": watch.seconds["compile"]} | meter.read()


def described(record: dict[str, Any], updates: int, watch: Stopwatch) -> str:
    done = int(record["updates"])
    losses = f"joint loss {record['trained_on_loss']:.3f}, held out {record['held_out_loss']:.3f}"
    rate = (done - CHUNK) / watch.seconds.get("learn", 1.0)  # the first ones count as compilation
    return f"{done:,} updates, {losses}; {to_go(updates - done, rate)}"
