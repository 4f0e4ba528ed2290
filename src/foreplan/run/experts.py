"""From an expert's name to somebody who can be asked.

plan, plan:icem           a planner in the true environment, rolled back after every look ahead
a run directory           the newest policy of a trained run
package.module:callable   a function of one observation; it gives an action, or None where it does not know
human                     a person, on the labelling page: `foreplan label RUN`
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from foreplan.agents.experts import AgentExpert, CallableExpert, Expert
from foreplan.core.errors import UsageError
from foreplan.core.types import Agent, Spec, VectorEnv
from foreplan.envs import gl, names
from foreplan.run import checkpoint
from foreplan.run.settings import check_actions, read_config

FORMS = "accepted: plan, a run directory, package.module:callable; a person labels by `foreplan label RUN`"


def taught(agent: Any, env: VectorEnv) -> Agent:
    """`agent` with the expert that it names, in `env`; any other agent as it is. Raises `UsageError`."""
    return agent.taught_by(make(agent.expert, env)) if hasattr(agent, "taught_by") else agent


def make(name: str, env: VectorEnv, planner: Any = None) -> Expert:
    """The expert called `name` for all environments of `env`. "plan" plans with `planner`, or with one for its kind of
    actions. Raises `UsageError`."""
    if name == "plan":
        return planning(env, planner)
    if (Path(name) / "config.json").is_file():
        return of_run(Path(name), env.name, env.spec)
    if ":" in name:
        return CallableExpert(f"callable:{name}", names.factory(name), env.spec)
    raise UsageError(f"expert {name!r} is not known; {FORMS}")


def planning(env: VectorEnv, planner: Any = None) -> AgentExpert:
    """A planner that looks ahead in the true environment, by default with what has proved good for the task. Raises
    `UsageError` where that cannot be rolled back."""
    gl.configure()  # before MuJoCo is imported
    from foreplan.agents.mpc import MPC
    from foreplan.planners.discrete import Discrete
    from foreplan.planners.named import tuned
    from foreplan.sims.mujoco import Task

    options: dict[str, Any] = {}
    if planner is None and env.spec.discrete:
        planner = Discrete(num_samples=32, num_elites=8, iterations=2)
    elif planner is None:
        known = tuned([env.name])
        teacher = known.teacher or known.planner
        steps = teacher.horizon * (known.action_repeat or env.spec.action_repeat)
        planner = replace(teacher, horizon=max(1, round(steps / env.spec.action_repeat)))  # as far ahead in time
        options = {} if known.reward is None else {"task": Task(names.factory(known.reward, "reward"))}
        options |= {} if known.teacher_coarse == 1 else {"coarse": known.teacher_coarse}
    check_actions(planner, env.name, env.spec)
    return AgentExpert(f"plan:{type(planner).__name__.lower()}", MPC.of(env, planner, **options), ())


def of_run(out: Path, env: str, spec: Spec) -> AgentExpert:
    """The policy of a run's newest whole checkpoint. Raises `UsageError` where it is of another space."""
    agent, settings, _ = read_config(out)
    check_actions(agent, env, spec)
    parts = checkpoint.load(checkpoint.newest_whole(out / checkpoint.FOLDER, print), "learner", "clock")
    try:
        learner = checkpoint.learner_of(agent, spec, parts)
    except UsageError as error:
        raise UsageError(f"{out}, trained in {settings.env}, cannot act in {env}: {error}") from None
    return AgentExpert(f"run:{out}", agent, learner)
