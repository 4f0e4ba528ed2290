"""Which of the states that a policy has visited to ask people about first.

random         each as likely as any other
all            from the first to the last
wavering       where the action differs most from the one before
disagreement   where the members of the policy's ensemble would do different things
value-drop     where the value has fallen most since the state before: something has just gone wrong
planner        where the planner that looks ahead in the true environment would do something else
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents import exchanged
from foreplan.core.errors import UsageError, unknown
from foreplan.core.types import LooksAhead
from foreplan.label.adviser import Adviser
from foreplan.label.visits import Policy, Visit

PLANNED = 3  # states that the planner looks at, for each that is asked about

Scores = np.ndarray  # [visits]; the higher, the sooner asked about


def choose(
    visits: Sequence[Visit],
    strategy: str,
    number: int,
    policy: Policy | None = None,
    adviser: Adviser | None = None,
    seed: int = 0,
) -> list[Visit]:
    """The `number` visits that the strategy would rather have labelled, the best first. Raises UsageError where the
    policy does not have what the strategy goes by."""
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    rng = np.random.default_rng(seed)
    if strategy == "planner":  # it is dear: not everywhere
        visits = [visits[i] for i in rng.permutation(len(visits))[: PLANNED * number]]
    scores = STRATEGIES[strategy](visits, rng, policy, adviser)
    return [visits[i] for i in np.argsort(-scores, kind="stable")[:number]]


def at_random(visits: Sequence[Visit], rng: np.random.Generator, policy: Any, adviser: Any) -> Scores:
    return rng.random(len(visits))


def in_order(visits: Sequence[Visit], rng: np.random.Generator, policy: Any, adviser: Any) -> Scores:
    return -np.arange(len(visits), dtype=np.float64)


def where_it_wavers(visits: Sequence[Visit], rng: np.random.Generator, policy: Any, adviser: Any) -> Scores:
    actions = np.stack([visit.action for visit in visits])
    return np.abs(_since_before(visits, actions)).max(axis=1)


def where_members_disagree(visits: Sequence[Visit], rng: np.random.Generator, policy: Policy, adviser: Any) -> Scores:
    doubt = getattr(policy.agent, "doubt", None)
    scores = None if doubt is None else doubt(policy.learner, _seen(visits))
    if scores is None:
        raise UsageError(
            "strategy is disagreement, but the policy is no ensemble (--agent.policy.members); accepted: "
            + ", ".join(name for name in STRATEGIES if name != "disagreement")
        )
    return np.asarray(scores)


def where_value_drops(visits: Sequence[Visit], rng: np.random.Generator, policy: Policy, adviser: Any) -> Scores:
    agent, key = policy.agent, jax.random.key(0)
    if hasattr(agent, "value"):
        values = jax.jit(agent.value)(policy.learner, _seen(visits))
    elif isinstance(agent, LooksAhead):
        values = exchanged.values(agent, policy.learner, _seen(visits), key)[0]
    else:
        raise UsageError(
            f"strategy is value-drop, but {type(agent).__name__} has learned no value; accepted: "
            + ", ".join(name for name in STRATEGIES if name != "value-drop")
        )
    return -_since_before(visits, np.asarray(values, np.float64))


def where_a_planner_differs(visits: Sequence[Visit], rng: np.random.Generator, policy: Any, adviser: Any) -> Scores:
    if adviser is None:
        raise UsageError("strategy is planner, but there is none: name one with --planner")
    return np.array([np.abs(np.asarray(adviser.propose(visit)) - visit.action).max() for visit in visits])


Strategy = Callable[[Sequence[Visit], np.random.Generator, Any, Any], Scores]
STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "all": in_order,
    "wavering": where_it_wavers,
    "disagreement": where_members_disagree,
    "value-drop": where_value_drops,
    "planner": where_a_planner_differs,
}


def _seen(visits: Sequence[Visit]) -> jax.Array:
    return jnp.asarray(np.stack([visit.obs for visit in visits]))


def _since_before(visits: Sequence[Visit], what: np.ndarray) -> np.ndarray:
    """The change since the state before, of visits in order; none where an episode begins."""
    change = np.diff(what, axis=0, prepend=what[:1])
    change[[visit.time == 0 for visit in visits]] = 0.0
    return change
