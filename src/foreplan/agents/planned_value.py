"""What lies beyond the horizon of a planner, learned by planning in a learned model: fitted value iteration, as in POLO
(Lowrey, Rajeswaran, Kakade, Todorov, Mordatch: "Plan Online, Learn Offline: Efficient Learning and Exploration via
Model-Based Control", ICLR 2019, algorithm 1).

 1. begin with the best reward so far, for ever, everywhere: none is worth more    `optimistic`
 2. as often as asked                                                              `fit_planned`
      a. draw states from the data
      b. plan a few steps ahead of each, with the value at the end: its target     `planned`
      c. fit each head to the targets by least squares                             `fitted`

Unlike the values of `worlds/value.py`, this one is not of whoever has acted, but of planning for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting, Split, transitions
from foreplan.core.learning import descend
from foreplan.core.model import Model
from foreplan.core.replay import Replay
from foreplan.core.types import Metrics
from foreplan.nn.nets import Ensemble
from foreplan.planners.icem import ICEM
from foreplan.planners.sampling import plan
from foreplan.worlds.fitting import moments
from foreplan.worlds.value import Value

Ahead = Callable[[Value, PRNGKeyArray], Model]  # a model, whose states are observations, with the value at the end
BRIEF = ICEM(horizon=3, num_samples=24, num_elites=4, iterations=2, decay=1.0, exponent=1.0)
TIED = 0.005  # share of the range of values: so near the highest they are all as good, as no fit is more exact


@dataclass(frozen=True)
class ValuePlanning:
    planner: ICEM = BRIEF
    sweeps: int = 30  # what a fit looks ahead is so many times the planner's horizon
    states: int = 1024  # that a sweep plans from
    epochs: int = 16  # of a sweep
    batch_size: int = 256
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.sweeps, self.states, self.epochs, self.batch_size) < 1 or not self.lr > 0.0:
            raise UsageError("sweeps, states, epochs and batch_size must be at least 1, lr above 0")


def fit_planned(
    value: Value, ahead: Ahead, action_dim: int, replay: Replay, config: ValuePlanning, key: PRNGKeyArray
) -> tuple[Value, Metrics]:
    """Traced by whoever calls it. `value_error` is the heads' squared error in the last sweep, as a share of its
    targets' variance."""
    rows, split = transitions(replay), Split.of(replay, Fitting())
    obs, reward = jnp.asarray(rows.obs), jnp.asarray(rows.reward)
    low = jnp.min(reward, where=split.trained, initial=0.0) / (1.0 - value.discount)
    high = jnp.max(reward, where=split.trained, initial=-jnp.inf) / (1.0 - value.discount)
    mean, std = moments(obs, split.trained, jnp.float32(1e-3))
    most = high - TIED * (high - low)
    optimistic = replace(value, mean=mean, std=std, centre=high, spread=jnp.zeros(()), most=most)

    def planned(model: Model, obs: Float32[Array, "obs"], key: PRNGKeyArray) -> Float32[Array, ""]:
        """What the best plan returns that is found from `obs`, the value at its end included."""
        return plan(config.planner, model, obs, config.planner.init(action_dim), key)[0].best_return

    def sweep(value: Value, key: PRNGKeyArray) -> tuple[Value, Array]:
        draw_key, model_key, plan_key, fit_key = jax.random.split(key, 4)
        states, model = obs[split.draw((config.states,), draw_key)], ahead(value, model_key)
        keys = jax.random.split(plan_key, config.states)
        found = jax.lax.map(lambda each: planned(model, *each), (states, keys), batch_size=64)
        return fitted(value, states, jnp.clip(found, low, high), config, fit_key)

    value, errors = jax.lax.scan(sweep, optimistic, jax.random.split(key, config.sweeps))
    return value, {"value_error": errors[-1]}


def fitted(
    value: Value, obs: Float32[Array, "n obs"], target: Float32[Array, "n"], config: ValuePlanning, key: PRNGKeyArray
) -> tuple[Value, Float32[Array, ""]]:
    """(the value, all its heads fitted to the targets, in these one's units; the last squared errors, in the same)."""
    centre, spread = jnp.mean(target), jnp.maximum(jnp.std(target), 1e-3)
    x, y, optimiser = (obs - value.mean[None]) / value.std[None], (target - centre) / spread, optax.adam(config.lr)

    def loss(heads: Ensemble, key: PRNGKeyArray) -> tuple[Array, Array]:
        at = jax.random.randint(key, (config.batch_size,), 0, x.shape[0])
        errors = (jax.vmap(heads)(x[at])[..., 0] - y[at, None]) ** 2
        return jnp.sum(jnp.mean(errors, axis=0)), jnp.mean(errors)

    def step(carry: tuple[Ensemble, Any], key: PRNGKeyArray) -> tuple[tuple[Ensemble, Any], Array]:
        heads, state = carry
        error, heads, state = descend(lambda heads: loss(heads, key), heads, optimiser, state)
        return (heads, state), error

    keys = jax.random.split(key, max(1, config.epochs * x.shape[0] // config.batch_size))
    (heads, _), errors = jax.lax.scan(step, (value.heads, optimiser.init(value.heads)), keys)
    return replace(value, heads=heads, centre=centre, spread=spread), jnp.mean(errors[-10:])
