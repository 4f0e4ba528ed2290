"""Model predictive control without learning: in every state plan in a simulator of the environment, and do the first
action only.

The plant and the planner's simulator are two objects; only the plant's snapshot passes from one to the other.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from foreplan.envs import names as envs
from foreplan.planners.sampling import plan, plan_on_host
from foreplan.run.evaluate import Evaluation
from foreplan.run.randomness import Keys
from foreplan.run.settings import MAX_SEED, check_actions
from foreplan.sims import names as sims
from foreplan.sims.rollout import scorer

Turn = tuple[float, bool]  # reward, whether the episode has ended


def plan_episodes(
    env: str,
    planner: Any,
    episodes: int,
    seed: int = 0,
    action_repeat: int | None = None,
    each: Callable[[int, float, int], None] = lambda episode, value, decisions: None,
) -> Evaluation:
    """Episodes in which `planner` looks ahead in the true environment. `each` hears of (episode, return so far,
    decisions so far) after every decision. Raises `UsageError` for an environment that cannot be rolled back."""
    begin, returns, lengths = time.perf_counter(), [], []
    spec = envs.make(env, action_repeat=action_repeat).spec
    check_actions(planner, env, spec)
    for episode in range(episodes):
        episode_seed = MAX_SEED + 1 + seed + episode  # as in evaluation: seeds that training never sees
        turns = _in_model(env, planner, episode_seed) if env in envs.JAX else None
        rewards = []
        for reward, _ in turns or _in_simulator(env, planner, episode_seed, action_repeat):
            rewards.append(reward)
            each(episode, sum(rewards), len(rewards))
        returns.append(float(sum(rewards)))
        lengths.append(len(rewards))
    return Evaluation(seed, returns, lengths, sum(lengths) * spec.action_repeat, time.perf_counter() - begin)


def _in_simulator(name: str, planner: Any, seed: int, action_repeat: int | None) -> Iterator[Turn]:
    plant, simulator, keys = envs.build(name, action_repeat), sims.make(name, action_repeat), Keys(seed % MAX_SEED)
    act = jax.jit(partial(planner.act, explore=False))
    memory, ended, turn = planner.init(plant.spec.action_dim), False, 0
    plant.reset(seed)
    while not ended:
        key = keys("act", turn)
        memory, _ = plan_on_host(planner, scorer(simulator, plant.snapshot()), memory, key)
        _, reward, terminated, truncated = plant.step(np.asarray(act(memory, key=key)))
        ended, turn = terminated or truncated, turn + 1
        yield float(reward), ended
    plant.close()


def _in_model(name: str, planner: Any, seed: int) -> Iterator[Turn]:
    """A JAX-native environment is itself the model: planning and stepping are one compiled program."""
    model, keys = envs.jax_env(name), Keys(seed % MAX_SEED)

    @jax.jit
    def turn(state: Any, memory: Any, key: jax.Array) -> tuple[Any, Any, jax.Array, jax.Array]:
        plan_key, act_key, step_key = jax.random.split(key, 3)
        memory, _ = plan(planner, model, state, memory, plan_key)
        state, reward, discount = model.step(state, planner.act(memory, False, act_key), step_key)
        return state, memory, reward, discount

    state, memory = model.reset(keys("reset", 0)), planner.init(model.action_dim)
    for t in range(1, model.episode_length + 1):
        state, memory, reward, discount = turn(state, memory, keys("act", t))
        ended = t == model.episode_length or float(discount) == 0.0
        yield float(reward), ended
        if ended:
            return
