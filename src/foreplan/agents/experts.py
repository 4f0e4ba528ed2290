"""Experts: whoever says what should be done in a state. A planner, a trained policy, a function; a person does so on
the labelling page. An expert may not know: then the state has no label."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.types import Agent, Learner, Memory, Spec, TimeStep

Labels = tuple[Float32[np.ndarray, "env action"], Bool[np.ndarray, "env"], Memory]


@runtime_checkable
class Expert(Protocol):
    """`who` is the provenance of its labels: "plan:icem", "run:runs/x", "callable:module:name"."""

    who: str

    def memory(self, spec: Spec) -> Memory: ...
    def label(self, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, wanted: np.ndarray) -> Labels:
        """(what should be done in each environment, where it is known, memory). Only where it is `wanted`, bool [env],
        does the answer count."""
        ...


class AgentExpert:
    """Any agent, without exploration: what it would do is always known."""

    def __init__(self, who: str, agent: Agent, learner: Learner) -> None:
        self.who, self._agent, self._learner = who, agent, learner

    def memory(self, spec: Spec) -> Memory:
        return self._agent.memory(spec)

    def label(self, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, wanted: np.ndarray) -> Labels:
        actions, memory, _ = self._agent.act(self._learner, timestep, memory, key, False)
        return np.asarray(jax.device_get(actions)), np.ones(len(wanted), np.bool_), memory


class PolicyExpert:
    """A policy that stands by itself: `act(obs, key, explore)` of one observation, without exploration."""

    def __init__(self, who: str, policy: Any) -> None:
        self.who, self._policy = who, policy

    def memory(self, spec: Spec) -> tuple[()]:
        return ()

    def label(self, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, wanted: np.ndarray) -> Labels:
        actions = _modes(self._policy, timestep.obs, key)
        return np.asarray(jax.device_get(actions)), np.ones(len(wanted), np.bool_), memory


@jax.jit
def _modes(policy: Any, obs: Float32[Array, "env obs"], key: PRNGKeyArray) -> Float32[Array, "env action"]:
    return jax.vmap(lambda each: policy.act(each, key, False))(obs)


class CallableExpert:
    """A function of one observation, float32 [obs]. It gives an action in [-1, 1], in a discrete space its number or
    its one-hot vector, or None where it does not know. A lone number is an action of one dimension."""

    def __init__(self, who: str, function: Callable[[np.ndarray], Any], spec: Spec) -> None:
        self.who, self._function, self._spec = who, function, spec

    def memory(self, spec: Spec) -> tuple[()]:
        return ()

    def label(self, timestep: TimeStep, memory: Memory, key: PRNGKeyArray, wanted: np.ndarray) -> Labels:
        actions = np.zeros((len(wanted), self._spec.action_dim), np.float32)
        known = np.zeros(len(wanted), np.bool_)
        observed = np.asarray(jax.device_get(timestep.obs))
        for i in np.flatnonzero(wanted).tolist():
            answer = self._function(observed[i])
            if answer is not None:
                actions[i], known[i] = self._action(answer), True
        return actions, known, memory

    def _action(self, answer: Any) -> np.ndarray:
        given, spec = np.asarray(answer, np.float32), self._spec
        if spec.discrete and given.ndim == 0 and float(given) in range(spec.action_dim):
            return np.eye(spec.action_dim, dtype=np.float32)[int(given)]
        if given.ndim == 0 and spec.action_dim == 1:
            given = given[None]
        fits = given.shape == (spec.action_dim,) and bool((np.abs(given) <= 1.0).all())
        if not fits or (spec.discrete and sorted(given.tolist())[-2:] != [0.0, 1.0]):
            one = f"a number from 0 to {spec.action_dim - 1}" if spec.discrete else f"{spec.action_dim} in [-1, 1]"
            raise UsageError(f"{self.who} answered {answer!r}; accepted: {one}, or None where it does not know")
        return given
