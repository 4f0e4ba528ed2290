"""What a planner would do in a state, looking ahead in the true environment: a second opinion for the page."""

from dataclasses import replace

import jax
import numpy as np

from foreplan import presets
from foreplan.core.types import VectorEnv
from foreplan.label.visits import Visit
from foreplan.run import experts
from foreplan.run.state import put


class Adviser:
    """Plans in `env`, one copy, which is its own. Raises UsageError where that cannot be rolled back."""

    def __init__(self, env: VectorEnv, planner: str) -> None:
        self._env = env
        env.reset(0)
        self._expert = experts.planning(env, presets.planner(planner))

    def propose(self, visit: Visit) -> list[float]:
        """Its action in [-1, 1], one-hot where actions are discrete; planned from nothing, as in a first state."""
        self._env.restore(visit.snapshot)
        begun = put(replace(visit.timestep, first=np.ones(1, np.bool_)))
        memory = self._expert.memory(self._env.spec)
        actions, _, _ = self._expert.label(begun, memory, jax.random.key(0), np.ones(1, np.bool_))
        return actions[0].clip(-1.0, 1.0).tolist()

    def close(self) -> None:
        self._env.close()
