"""Does a user's reward or termination function say what was recorded? Every transition must agree, as in
`sims.agreement`; but of what is recorded only observations are known, so the functions are those that learned models
take (`worlds/known.py`): of one (obs, action, next obs), in JAX, with actions in [-1, 1].
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from foreplan.core.errors import UsageError
from foreplan.data.dataset import Dataset
from foreplan.envs import names as envs
from foreplan.envs.contract import Finding
from foreplan.run.pretrain import load_data
from foreplan.worlds.known import check, known, said

TOLERANCE = 1e-4  # of a reward, relative to it where it is above 1: what is recorded is rounded to 32 bits
FIRST = 5  # disagreements that are named


def compare(
    env: str, name: str, functions: dict[str, str], say: Callable[[str], None] = print
) -> tuple[list[Finding], dict[str, Any]]:
    """(findings, the same in numbers) of `functions`, {"reward" or "terminated": "module:function"}, on the data called
    `name`, also what a run remembers. Raises UsageError where they are of another space than `env`, or a function
    cannot be asked."""
    data = load_data(name, say)
    if not len(data):
        raise UsageError(f"{name} is empty")
    if "reward" in functions and not data.about.rewards:
        raise UsageError(f"{name} has no rewards to compare with")
    with closing(envs.make(env, action_repeat=data.about.action_repeat or None)) as made:
        spec = made.spec
    data.check_spec(spec, env, name)
    for kind, function in functions.items():
        check(function, kind, spec)
    told = {kind: differences(data, kind, function) for kind, function in functions.items()}
    origin = f", recorded in {data.about.env}" if data.about.env not in ("", env) else ""
    findings = [finding(kind, each, f"{name}{origin}") for kind, each in told.items()]
    return findings, {"data": name, "episodes": len(data.returns), **told}


def differences(data: Dataset, kind: str, name: str) -> dict[str, Any]:
    """How many `transitions` there are, about how many the function is `wrong`, and the `first` of these: episode, step
    within it, what is `said` (None where that is not finite) and what is `recorded`. Of a reward the `largest`
    difference that is finite; of ends how many are `terminal`, `missed` and `invented`."""
    function = known(name, kind)
    assert function is not None
    given = np.asarray(jax.jit(partial(said, function))(data.obs, data.action, data.next_obs))
    truth, counts = data.arrays[kind], {}
    if kind == "reward":
        apart = np.abs(given.astype(np.float64) - truth)
        wrong = ~(apart <= TOLERANCE * np.maximum(1.0, np.abs(truth)))  # NaN disagrees, too
        counts = {"largest": float(np.max(apart, where=np.isfinite(apart), initial=0.0))}
    else:
        wrong, ends = given != truth, {"terminal": truth, "missed": truth & ~given, "invented": given & ~truth}
        counts = {what: int(np.sum(which)) for what, which in ends.items()}
    places = [
        (number, int(step), _number(given[steps][step]), float(truth[steps][step]))
        for number, steps in data.episodes()
        for step in np.flatnonzero(wrong[steps])[:FIRST]
    ]
    first = [dict(zip(("episode", "step", "said", "recorded"), place, strict=True)) for place in places[:FIRST]]
    return {"transitions": len(data), "wrong": int(wrong.sum()), **counts, "first": first}


def _number(value: Any) -> float | None:
    """None for what is not finite, which JSON cannot say."""
    return float(value) if np.isfinite(value) else None


def _text(value: float | None) -> str:
    return "what is not finite" if value is None else f"{value:.9g}"


def finding(kind: str, told: dict[str, Any], where: str) -> Finding:
    number, wrong = told["transitions"], told["wrong"]
    seen = f"wrong about {wrong:,} of {number:,} transitions" if wrong else f"on all of {number:,} transitions"
    seen += f" in {where}"
    if kind == "reward":
        seen += f", {told['largest']:.3g} apart at most"
    else:
        seen += f", {told['terminal']:,} of them terminal"
        seen += f": {told['missed']:,} ends missed, {told['invented']:,} invented" if wrong else ""
    rows = [
        f"episode {row['episode']}, step {row['step']}: {_text(row['said'])} for {_text(row['recorded'])}"
        for row in told["first"]
    ]
    return Finding(f"{kind} agrees", not wrong, "; ".join([seen, *rows]))
