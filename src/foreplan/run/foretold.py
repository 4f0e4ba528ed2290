"""What an agent's model foretold of real episodes, against what came: observations, rewards, values, plans."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.exchanged import Traits, rewards, single, values
from foreplan.core.learning import over_batch
from foreplan.core.model import proposals, returns
from foreplan.core.types import Learner, LooksAhead
from foreplan.planners.sampling import plan

AHEAD = 25  # decisions, without looking up
PLANS = 32  # states in which a plan is made anew, to be judged
TAIL = 0.1  # a return to come that a time limit cuts counts only where less than this share of it may be missing


def foretold(
    agent: Any, learner: Learner, acted: Mapping[str, Any], has: Traits, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """By subject. `acted` has `run.diagnose.Episodes` of the "run" and, where there is one, of the "policy".

    prediction: error, still [ahead], in standard deviations; reward, foretold [start, ahead]; time, like [n]: decisions
                of the first episode, and those after which it came nearest to what was foretold of them
    reward:     true, foretold [n]
    value:      true, foretold [n], for each of `acted`: "true_run", "foretold_run", ...
    plans:      imagined, policy, true [n]: what the model promises of its plan and of its policy, and what came; for a
                model without a value, within the horizon
    """
    key, run, found = jax.random.key(seed), acted["run"], {}
    found["prediction"] = prediction(agent, learner, run, key)
    real = run.running
    obs = np.stack([run.obs[real], run.after[real]], axis=1)  # [n, 2, obs]
    believed = np.mean(rewards(agent, learner, obs, run.action[real][:, None], key), axis=0)[:, 0]
    found["reward"] = {"true": run.reward[real], "foretold": believed}
    found["value"] = {}
    for name, episodes in acted.items() if has.value else ():
        to_come, known = to_go(episodes, has.discount)
        if known.any():
            believed = np.mean(values(agent, learner, episodes.obs[known], key), axis=0)
            found["value"] |= {f"true_{name}": to_come[known], f"foretold_{name}": believed}
    to_come, known = to_go(run, has.discount, None if has.value else agent.planner.horizon)
    if known.any():
        chosen = spread(np.flatnonzero(known), PLANS)
        imagined, by_policy = promises(agent, run.action.shape[-1], learner, flat(run.obs)[chosen], key)
        found["plans"] = {"imagined": imagined, "policy": by_policy, "true": to_come.ravel()[chosen]}
    return {subject: {name: np.asarray(array) for name, array in arrays.items()} for subject, arrays in found.items()}


def to_go(episodes: Any, discount: float, horizon: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(discounted return to come, whether nearly all of it is known), [time, env]; of `horizon` decisions only, where
    that is given. Nothing is to come after a termination; what comes after a cut is not known."""
    reward = np.where(episodes.running, episodes.reward, 0.0).astype(np.float64)
    ends = (episodes.terminated & episodes.running).any(axis=0)
    left = np.cumsum(episodes.running[::-1], axis=0)[::-1]  # decisions until the end, this one included
    total = np.zeros_like(reward)
    for ahead in range(min(len(reward), horizon or len(reward))):
        total[: len(reward) - ahead] += discount**ahead * reward[ahead:]
    enough = left >= horizon if horizon is not None else discount**left <= TAIL
    return total, episodes.running & (ends[None] | enough)


def flat(array: np.ndarray) -> np.ndarray:
    """[time, env, ...] as [time * env, ...]."""
    return array.reshape(-1, *array.shape[2:])


def spread(items: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of `items`, evenly."""
    return items[np.linspace(0, len(items) - 1, min(number, len(items))).astype(int)]


def prediction(agent: LooksAhead, learner: Learner, episodes: Any, key: PRNGKeyArray) -> dict[str, Any]:
    """Of stretches of AHEAD decisions, or of the longest that there are. Errors are root mean squares, in standard
    deviations of the states; what never changes has no unit, and cannot be got wrong."""
    lengths = episodes.running.sum(axis=0)
    ahead = min(AHEAD, int(lengths.max()))
    starts = [(t, env) for env, n in enumerate(lengths) for t in range(0, n - ahead + 1, ahead)]
    time, env = (np.array(each)[:, None] for each in zip(*starts, strict=True))
    time = time + np.arange(ahead)
    seen = np.concatenate([episodes.obs[time[:, :1], env], episodes.after[time, env]], axis=1)
    answers = unrolled(agent, learner, seen, episodes.action[time, env], key)
    true, guessed, reward = (np.asarray(answer) for answer in answers)
    unit = np.std(true, axis=(0, 1))
    moves = unit > 1e-3 * np.max(unit)
    true, guessed = (x[..., moves] / unit[moves] for x in (true, guessed))

    def size(wrong: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(np.sum(wrong**2, axis=2), axis=0) / max(1, moves.sum()))

    found = {"error": size(guessed - true[:, 1:]), "still": size(true[:, :1] - true[:, 1:])}
    found |= {"reward": episodes.reward[time, env], "foretold": reward}
    filmed = np.flatnonzero(env[:, 0] == 0)
    return found | {"time": time[filmed].ravel(), "like": time[filmed].ravel()[alike(guessed, true[:, 1:], filmed)]}


def alike(guessed: np.ndarray, true: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Of each of the states [some * ahead] that were `guessed`, the one of the true ones that is nearest to it."""
    guesses, real = (x[some].reshape(-1, x.shape[2]) for x in (guessed, true))
    apart = np.sum(guesses**2, axis=1)[:, None] - 2.0 * guesses @ real.T + np.sum(real**2, axis=1)[None]
    return np.argmin(apart, axis=1) if len(real) else np.zeros(0, int)


@partial(jax.jit, static_argnums=0)
def unrolled(
    agent: LooksAhead, learner: Learner, seen: Any, actions: Any, key: PRNGKeyArray
) -> tuple[Float32[Array, "n rows state"], Float32[Array, "n ahead state"], Float32[Array, "n ahead"]]:
    """(states that were seen, states foretold, rewards foretold) of `actions` [n, ahead, action] in the model, without
    looking up from the first of what was `seen` [n, ahead + 1, obs]."""
    seen, actions = jnp.asarray(seen), jnp.asarray(actions)
    model = single(agent.look_ahead(learner, seen[0, 0], key)[0])
    states = over_batch(lambda obs: agent.look_ahead(learner, obs, key)[1])(seen)
    keys = jax.random.split(key, actions.shape[1])

    def unroll(state: Any, actions: Array) -> tuple[Any, Array]:
        def step(state: Any, at: tuple[Array, PRNGKeyArray]) -> tuple[Any, tuple[Any, Array]]:
            after, reward, _ = model.step(state, *at)
            return after, (after, reward)

        return jax.lax.scan(step, state, (actions, keys))[1]

    foretold, reward = jax.vmap(unroll)(jax.tree.map(lambda x: x[:, 0], states), actions)
    true, guessed = (
        jnp.concatenate([x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(tree)], axis=2)
        for tree in (states, foretold)
    )
    return true, guessed, reward


@partial(jax.jit, static_argnums=(0, 1))
def promises(
    agent: Any, action_dim: int, learner: Learner, obs: Any, key: PRNGKeyArray
) -> tuple[Float32[Array, "n"], Float32[Array, "n"]]:
    """(what the model says that a plan made in `obs` [n, obs] returns, and that its policy returns there on average, or
    NaN), of one model where there are several."""
    planner = agent.planner

    def one(obs: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        model_key, plan_key, score_key = jax.random.split(key, 3)
        model, state = agent.look_ahead(learner, obs, model_key)
        begin = planner.init(action_dim)
        planned = planner.planned(plan(planner, model, state, begin, plan_key)[0])
        alone = single(model)
        score = partial(returns, alone, state, key=score_key)
        offered = proposals(alone, state, planner.horizon, 8, plan_key)
        of_policy = jnp.full((), jnp.nan) if offered is None else jnp.mean(jax.vmap(score)(offered))
        return score(planned), of_policy

    obs = jnp.asarray(obs)
    return jax.lax.map(lambda at: one(*at), (obs, jax.random.split(key, obs.shape[0])))
