"""Values from data, on chains whose values are known."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import corridor, counter, loop, one_hot, remember

from foreplan.core.fitting import Fitting
from foreplan.core.replay import Replay
from foreplan.core.targets import returns_to_go
from foreplan.core.types import Spec
from foreplan.worlds.value import Value, ValueFitting, ValueNetwork, fit_value

SMALL = ValueNetwork(heads=1, widths=(32,))
G = 0.9
QUICK = Fitting(lr=1e-2, batch_size=32, max_epochs=30, patience=3)


def values_of(replay: Replay, spec: Any, **config: Any) -> np.ndarray:
    """The fitted value of each room."""
    value = Value.create(spec, SMALL, jax.random.key(0))
    config = ValueFitting(discount=G, fitting=QUICK, **config)
    value, _, _ = fit_value(value, replay, config, jax.random.key(1))
    return np.asarray(jax.vmap(value)(jnp.eye(*spec.obs_shape, dtype=jnp.float32)))


@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_returns_to_go_are_those_of_the_definition(weight: float) -> None:
    """By a recursion in NumPy, in two environments whose ring has been overwritten."""
    random = np.random.default_rng(0)
    ends = random.choice(3, size=(37, 2), p=[0.8, 0.1, 0.1])
    replay, _ = counter(50, 2, 37, ends)
    assert int(replay.size) < 37
    values = jnp.asarray(random.normal(size=replay.steps.reward.shape), jnp.float32)
    found = returns_to_go(replay, values, 0.9, weight)
    order = (int(replay.head) - int(replay.size) + np.arange(int(replay.size))) % replay.capacity
    steps = jax.device_get(replay.steps)
    for env in range(2):
        later = None
        for row in order[::-1]:
            value = float(values[row, env])
            known = later is not None and not steps.truncated[row, env]
            ahead = (1 - weight) * value + weight * later if known else value
            later = steps.reward[row, env] + 0.9 * (0.0 if steps.terminated[row, env] else ahead)
            assert float(found[row, env]) == pytest.approx(later, rel=1e-5)


@pytest.mark.parametrize("target", ["return", "lambda", "td"])
def test_nothing_follows_termination(target: Any) -> None:
    """Three steps to a reward of 1 (PITFALLS 2)."""
    replay, spec = corridor(3, rewards=[0.0, 0.0, 1.0], terminates=True)
    np.testing.assert_allclose(values_of(replay, spec, target=target)[:3], [G * G, G, 1.0], atol=0.02)


@pytest.mark.parametrize("target", ["return", "lambda", "td"])
def test_a_time_limit_is_no_end(target: Any) -> None:
    """A reward of 1 for ever is worth 1 / (1 - discount), however short the episodes (PITFALLS 1)."""
    replay, spec = loop(reward=1.0, limit=5)
    np.testing.assert_allclose(values_of(replay, spec, target=target), 1.0 / (1.0 - G), rtol=0.02)


@pytest.mark.parametrize("target", ["return", "td"])
def test_what_a_truncated_episode_did_not_live_to_see_is_filled_in(target: Any) -> None:
    """Round three rooms, paid in the last one alone, cut after five steps: V0 = g^2 / (1 - g^3)."""
    spec = Spec(obs_shape=(8,), action_dim=1, episode_length=5)
    replay = Replay.create(spec, 256)
    for t in range(256):
        room = (t // 5 + t % 5) % 3
        step = one_hot(room, 8), float(room == 2), False, t % 5 == 4, one_hot((room + 1) % 3, 8)
        replay = remember(replay, [step], np.zeros((1, 1)), t // 5)
    expected = np.array([G * G, G, 1.0]) / (1 - G**3)
    np.testing.assert_allclose(values_of(replay, spec, target=target)[:3], expected, rtol=0.02)


def test_curve_and_metrics_say_how_well_it_went() -> None:
    replay, spec = corridor(3, rewards=[0.0, 0.0, 1.0], terminates=True)
    value = Value.create(spec, SMALL, jax.random.key(0))
    value, metrics, curves = fit_value(value, replay, ValueFitting(discount=G, fitting=QUICK), jax.random.key(1))
    curve = np.asarray(curves["value"])[0]
    assert float(metrics["value_error"]) == pytest.approx(np.nanmin(curve))
    assert np.nanmin(curve) < 0.01 < 0.5 < curve[0]
    assert float(metrics["sweeps"]) <= 2.0  # a value stands only in the targets of the episode that is still open
    assert float(value.discount) == pytest.approx(G)


@pytest.mark.parametrize(
    "wrong", [{"discount": 1.0}, {"weight": 0.5}, {"target": "lambda", "weight": 2.0}, {"sweeps": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"accepted|at least"):
        ValueFitting(**wrong)


def test_a_cautious_value_is_lowered_by_what_its_heads_disagree() -> None:
    value = Value.create(Spec((3,), 1), ValueNetwork(heads=3), jax.random.key(0))
    value = replace(value, centre=jnp.float32(5.0), spread=jnp.float32(2.0))
    obs = jnp.array([0.3, -2.0, 1.0])
    each = 5.0 + 2.0 * np.asarray(value.heads(obs))[:, 0]
    assert np.std(each) > 0.05
    np.testing.assert_allclose(value(obs), np.mean(each), rtol=1e-5)
    np.testing.assert_allclose(replace(value, caution=1.5)(obs), np.mean(each) - 1.5 * np.std(each), rtol=1e-5)
    turns = jax.vmap(lambda one: one(obs))(value.each(5))
    np.testing.assert_allclose(turns, each[[0, 1, 2, 0, 1]], rtol=1e-5)
