"""What every sampling planner must do, on problems whose optimum is known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PLANNERS, copy, shapes

from foreplan.core.model import Model
from foreplan.planners.sampling import plan

every_planner = pytest.mark.parametrize("name", PLANNERS)
TARGETS = jnp.array([[0.5, -0.3], [-0.8, 0.1], [0.0, 0.9], [0.2, 0.2], [0.0, 0.0], [0.0, 0.0]])


class Targets(Model):
    """The state counts steps; each has an action that would be best. Rewards are `scale` times those of scale 1."""

    scale: float = 1.0
    offset: float = 0.0

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        reward = self.offset - jnp.sum((action - TARGETS[state]) ** 2)
        return state + 1, self.scale * reward, jnp.ones(())


class Minefield(Targets):
    """Not a number wherever the first action is positive: a model that has diverged."""

    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        state, reward, discount = super().step(state, action, key)
        return state, jnp.where(action[0] > 0.0, jnp.nan, reward - 5.0), discount


class Broken(Targets):
    def step(self, state, action, key):  # type: ignore[no-untyped-def]
        return state + 1, jnp.float32(jnp.nan), jnp.ones(())


START = jnp.zeros((), jnp.int32)
planned = jax.jit(plan, static_argnums=0)


def run(name: str, model: Model, turns: int = 1, seed: int = 0) -> tuple[Any, int]:
    """Memory and number of invalid candidates after planning `turns` times from the start."""
    planner = PLANNERS[name]
    memory, invalid = planner.init(2), 0
    for key in jax.random.split(jax.random.key(seed), turns):
        memory, bad = planned(planner, model, START, memory, key)
        invalid += int(bad)
    return memory, invalid


def action(name: str, memory: Any) -> np.ndarray:
    return np.asarray(PLANNERS[name].act(memory, explore=False, key=jax.random.key(0)))


@every_planner
def test_finds_the_optimum(name: str) -> None:
    memory, invalid = run(name, Targets())
    np.testing.assert_allclose(action(name, memory), TARGETS[0], atol=0.1)
    assert invalid == 0


@every_planner
def test_what_is_not_a_number_never_wins_and_is_counted(name: str) -> None:
    """All valid returns are negative: counting NaN as 0 would make it the best of all (PITFALLS 33)."""
    memory, invalid = run(name, Minefield())
    assert 0 < invalid < sum(PLANNERS[name].populations)
    assert action(name, memory)[0] <= 0.0
    assert action(name, memory)[1] == pytest.approx(float(TARGETS[0, 1]), abs=0.15)


@every_planner
def test_a_model_with_no_valid_plan_at_all_leaves_the_memory_finite(name: str) -> None:
    memory, invalid = run(name, Broken())
    assert invalid == sum(PLANNERS[name].populations)
    for explore in (False, True):
        assert np.isfinite(PLANNERS[name].act(memory, explore, jax.random.key(0))).all()


@every_planner
def test_memory_keeps_structure_shape_and_dtype(name: str) -> None:
    fresh = PLANNERS[name].init(2)
    memory, _ = run(name, Targets(), turns=2)
    assert shapes(memory) == shapes(fresh)


@every_planner
def test_is_compiled_once(name: str, compiled: Callable[[], list[str]]) -> None:
    planner = PLANNERS[name]

    @jax.jit
    def turn(memory, key):  # type: ignore[no-untyped-def]
        return plan(planner, Targets(), START, memory, key)[0]

    memory = planner.init(2)
    for key in jax.random.split(jax.random.key(0), 5):
        memory = turn(memory, key)
    assert compiled().count("jit(turn)") == 1


@every_planner
def test_actions_are_within_bounds_whether_exploring_or_not(name: str) -> None:
    class Beyond(Targets):
        def step(self, state, action, key):  # type: ignore[no-untyped-def]
            return state + 1, jnp.sum(action), jnp.ones(())

    memory, _ = run(name, Beyond())
    for seed in range(10):
        assert np.abs(PLANNERS[name].act(memory, True, jax.random.key(seed))).max() <= 1.0
    np.testing.assert_allclose(action(name, memory), 1.0, atol=0.05)


@every_planner
def test_the_deterministic_action_needs_no_randomness(name: str) -> None:
    memory, _ = run(name, Targets())
    first, second = (PLANNERS[name].act(copy(memory), False, jax.random.key(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    explored = {tuple(np.asarray(PLANNERS[name].act(memory, True, jax.random.key(seed)))) for seed in range(4)}
    assert len(explored) > 1


@every_planner
def test_acts_by_the_first_action_of_its_plan(name: str) -> None:
    planner = PLANNERS[name]
    memory, _ = run(name, Targets())
    planned = planner.planned(memory)
    assert planned.shape == (planner.horizon, 2)
    np.testing.assert_allclose(action(name, memory), planned[0], atol=1e-6)
