"""What every agent must do, whatever it learns."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import AGENTS, FALLING, copy, shapes, taught, timestep
from probes import remember

from foreplan.agents.fitted import Fitted
from foreplan.core.replay import Replay
from foreplan.core.types import Spec
from foreplan.run.checkpoint import flatten, unflatten
from foreplan.run.state import extras

every_agent = pytest.mark.parametrize("name", AGENTS)
SPEC = Spec(obs_shape=(5,), action_dim=2, num_envs=2, episode_length=10)


@pytest.fixture(scope="module")
def replay() -> Replay:
    """A smooth world with rewards, in which episodes of ten steps are truncated and some terminate."""
    replay, random = Replay.create(SPEC, 256), np.random.default_rng(0)
    obs = random.normal(size=(2, 5))
    for t in range(100):
        action = random.uniform(-1, 1, (2, 2))
        after = 0.9 * obs + 0.1 * np.pad(action, ((0, 0), (0, 3)))
        terminated, truncated = random.random(2) < 0.05, np.full(2, t % 10 == 9)
        replay = remember(replay, list(zip(obs, obs[:, 0], terminated, truncated, after, strict=True)), action)
        ended = terminated | truncated
        obs = np.where(ended[:, None], random.normal(size=(2, 5)), after)
    return labelled(replay)


def labelled(replay: Replay) -> Replay:
    """What an expert would have done stands beside every transition, and that none was learned from yet."""
    obs, counts = jnp.asarray(replay.steps.obs), replay.steps.reward
    extras = {"label": jnp.tanh(-obs[..., :2]), "labelled": counts == counts, "intervention": counts == counts}
    extras |= {"doubt": jnp.zeros_like(counts), "priority": jnp.zeros_like(counts)}
    return eqx.tree_at(lambda r: r.steps.extras, replay, extras)


def begin(name: str) -> tuple[Any, Any, Any]:
    agent = AGENTS[name]
    return agent, agent.init(SPEC, jax.random.key(0)), agent.memory(SPEC)


def observe(seed: int, first: bool = False) -> Any:
    return timestep(np.random.default_rng(seed).normal(size=(2, 5)), np.full(2, first))


@every_agent
def test_trees_keep_structure_shape_and_dtype(name: str, replay: Replay) -> None:
    agent, learner, memory = begin(name)
    before = shapes(learner), shapes(memory)
    actions, memory, _ = agent.act(learner, observe(0, first=True), memory, jax.random.key(1), True)
    assert (actions.shape, actions.dtype) == ((2, 2), jnp.float32)
    assert np.abs(actions).max() <= 1.0
    learner, metrics = taught(agent, learner, replay, jax.random.key(2))
    assert (shapes(learner), shapes(memory)) == before
    assert all(metric.shape == () for metric in metrics.values())
    assert all(np.isfinite(metric) for metric in metrics.values())


@every_agent
def test_each_program_is_compiled_once(name: str, compiled: Callable[[], list[str]]) -> None:
    agent = AGENTS[name]
    spec = Spec(obs_shape=(5,), action_dim=2, num_envs=3)  # as no other test has it, so that nothing is compiled yet
    learner, memory = agent.init(spec, jax.random.key(0)), agent.memory(spec)
    compiled()
    for turn in range(4):
        key = jax.random.key(turn)
        step = timestep(np.zeros((3, 5)), np.full(3, turn == 0))
        _, memory, _ = agent.act(learner, step, memory, key, True)
        learner, _ = taught(agent, learner, Replay.create(spec, 30, extras(agent, spec)), key)
    programs = compiled()
    assert programs.count("jit(_settle)" if name == "dagger" else "jit(act)") == 1
    assert programs.count("jit(fit_world)" if isinstance(agent, Fitted) else "jit(learn)") == 1


@every_agent
def test_turns_make_no_implicit_transfers(name: str, replay: Replay) -> None:
    agent, learner, memory = begin(name)
    turns = [(observe(turn, first=turn == 0), jax.random.key(turn)) for turn in range(3)]
    for at, key in turns[:1]:
        _, memory, _ = agent.act(learner, at, memory, key, True)
        learner, _ = taught(agent, learner, replay, key)
    with jax.transfer_guard("disallow"):
        for at, key in turns[1:]:
            _, memory, _ = agent.act(learner, at, memory, key, True)
            learner, _ = taught(agent, learner, replay, key)


@every_agent
def test_updates_lower_the_loss_on_a_fixed_batch(name: str, replay: Replay) -> None:
    agent, learner, _ = begin(name)
    history = []
    for _ in range(60):  # the same key: the same windows, the same noise
        learner, metrics = taught(agent, learner, replay, jax.random.key(3))
        history.append({loss: float(metrics[loss]) for loss in FALLING[name]})
    for loss in FALLING[name]:
        assert history[-1][loss] < 0.8 * history[0][loss], f"{loss}: {history[0][loss]} -> {history[-1][loss]}"


@every_agent
def test_learning_is_deterministic_and_changes_nearly_everything(name: str, replay: Replay) -> None:
    agent, learner, _ = begin(name)
    start = copy(learner)
    once, _ = taught(agent, learner, replay, jax.random.key(4))
    again, _ = taught(agent, copy(start), replay, jax.random.key(4))
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(once), strict=True)]
    assert np.mean(changed) > 0.5


@every_agent
def test_evaluation_is_deterministic(name: str) -> None:
    agent, learner, memory = begin(name)
    step, key = observe(0, first=True), jax.random.key(5)
    first, second = (agent.act(learner, step, memory, key, False)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    explored = agent.act(learner, step, memory, key, True)[0]
    assert not np.array_equal(first, explored)


@every_agent
def test_memory_of_an_environment_is_fresh_where_its_episode_begins(name: str) -> None:
    """And only there: the other environment goes on with its own (PITFALLS 36)."""
    agent, learner, fresh = begin(name)
    key = jax.random.key(6)
    used = fresh
    for turn in range(3):
        _, used, _ = agent.act(learner, observe(turn, first=turn == 0), used, jax.random.key(turn), True)
    obs = observe(7).obs
    from_fresh, from_used, mixed = (
        agent.act(learner, timestep(obs, first), memory, key, False)[1]
        for memory, first in [(fresh, [True, True]), (used, [False, False]), (used, [True, False])]
    )
    for a, b, both in zip(*map(jax.tree.leaves, (from_fresh, from_used, mixed)), strict=True):
        np.testing.assert_array_equal(both[0], a[0])
        np.testing.assert_array_equal(both[1], b[1])
    assert not jax.tree.leaves(fresh) or any(
        not np.array_equal(a[1], b[1])
        for a, b in zip(jax.tree.leaves(from_fresh), jax.tree.leaves(from_used), strict=True)
    )


@every_agent
def test_environments_do_not_disturb_each_other(name: str) -> None:
    agent, learner, memory = begin(name)
    obs = np.asarray(observe(0).obs)
    key, actions = jax.random.key(8), []
    for shift in (0.0, 1.0, -1.0, 3.0, -3.0):  # a planner that chooses among few candidates may choose alike
        seen = timestep(np.stack([obs[0], obs[1] + np.float32(shift)]), [True, True])
        actions.append(np.asarray(agent.act(learner, seen, memory, key, False)[0]))
    first, second = np.stack(actions, axis=1)
    np.testing.assert_allclose(first, np.broadcast_to(first[0], first.shape), atol=1e-5)
    assert np.ptp(second, axis=0).max() > 1e-5


@every_agent
def test_a_checkpoint_brings_everything_back(name: str, replay: Replay) -> None:
    agent, learner, memory = begin(name)
    learner, _ = taught(agent, learner, replay, jax.random.key(9))
    _, memory, _ = agent.act(learner, observe(0, first=True), memory, jax.random.key(9), True)
    for tree in (learner, memory):
        arrays = flatten(tree)
        back = unflatten(jax.eval_shape(lambda tree=tree: tree), arrays)
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        for saved, restored in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
            np.testing.assert_array_equal(saved, restored)


@every_agent
def test_the_configuration_is_hashable_and_equal_to_its_copy(name: str) -> None:
    """It is the static argument of every compiled program."""
    from foreplan.run.settings import decode, encode

    agent = AGENTS[name]
    assert decode(encode(agent)) == agent
    assert hash(decode(encode(agent))) == hash(agent)
