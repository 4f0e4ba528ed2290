"""Does a user's reward or termination function say what the environment says? Transitions are logged by acting at
random, and every one must agree: a function that is wrong once in a thousand steps is exploited by any planner
(PITFALLS: parentheses that accept every state, another task's function)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.envs import names
from foreplan.envs.contract import Finding
from foreplan.sims.state import State, of_data

TOLERANCE = 1e-6


def agreement(
    name: str,
    reward: Callable[..., Any] | None = None,
    terminated: Callable[..., Any] | None = None,
    transitions: int = 2000,
    seed: int = 0,
) -> list[Finding]:
    """One finding for each function of (before, action, after), which is asked as a planner asks, leading axes [1, 1].
    For MuJoCo states are `sims.state.State`, for others observations. Each environment step is one transition."""
    functions = {"reward": reward, "terminated": terminated}
    given = {kind: function for kind, function in functions.items() if function is not None}
    env, rng = names.build(name, 1), np.random.default_rng(seed)
    wrong: dict[str, list[str]] = {kind: [] for kind in given}
    ends, ended = 0, True
    obs = np.empty(0)
    for row in range(transitions):
        if ended:
            obs = env.reset(seed if row == 0 else None)
        action = rng.uniform(-1.0, 1.0, env.spec.action_dim).astype(np.float32)
        if rng.random() < 0.5:
            action = np.sign(action)
        before = view(env, obs)
        obs, earned, over, truncated = env.step(action)
        truth = {"reward": earned, "terminated": over}
        for kind, function in given.items():
            said = ask(kind, function, before, action, view(env, obs))
            if not abs(said - truth[kind]) <= (TOLERANCE if kind == "reward" else 0.0):  # NaN disagrees, too
                wrong[kind].append(f"row {row}: it says {said:.9g}, the environment {float(truth[kind]):.9g}")
        ended, ends = over or truncated, ends + over
    env.close()
    seen = f"{transitions} transitions, {ends} of them terminal"
    return [
        Finding(
            f"{kind} agrees",
            not rows,
            f"on all of {seen}" if not rows else f"on {1 - len(rows) / transitions:.2%} of {seen}; {rows[0]}",
        )
        for kind, rows in wrong.items()
    ]


def view(env: Any, obs: np.ndarray) -> State | np.ndarray:
    """What a function is given: everything that the physics says, copied, or the observation."""
    physics = getattr(getattr(env, "adapter", None), "physics", None)
    if physics is None:
        return obs[None, None]
    now = of_data(physics.model, physics.data)
    known: dict[str, np.ndarray] = {}
    fields = FIELDS if now.model.nsensor == 0 else (*FIELDS, "sensordata")
    for field in fields:
        known[field] = now._read(field)[None, None]
    return State(physics.model, lambda field: known[field] if field in known else now._read(field)[None, None])


FIELDS = ("qpos", "qvel", "act", "ctrl", "xpos", "xipos", "xmat", "geom_xpos", "site_xpos", "cfrc_ext", "time")


def ask(kind: str, function: Callable[..., Any], before: Any, action: np.ndarray, after: Any) -> float:
    try:
        said = np.asarray(function(before, action[None, None], after))
    except UsageError:
        raise
    except Exception as error:  # a user's function fails in its own way
        raise UsageError(f"{kind} failed: {type(error).__name__}: {error}") from error
    if said.shape != (1, 1):
        raise UsageError(f"{kind} gave shape {said.shape} for states of leading axes (1, 1)")
    return float(said[0, 0])
