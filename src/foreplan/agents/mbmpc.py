"""Model-based RL by model predictive control, the plain form (Nagabandi et al. 2018, "Neural Network Dynamics for
Model-Based Deep Reinforcement Learning with Model-Free Fine-Tuning", algorithm 1).

 1. act at random, and keep what happens                                  `seed_steps`
 2. fit a deterministic network to all data so far, by least squares      `refit` (worlds/fitting.py)
 3. plan in it, from what is observed: the best of many random plans      `look_ahead`, planners/random_shooting.py
 4. do the plan's first action only                                       `act`
 5. add what happened to the data; go on with 3, now and then with 2      `refit_every`

Differences from the authors' code: episodes are held out for early stopping; inputs and targets are normalised by the
training split alone; reward and end may be learned; the last plan is a candidate again.
"""

from dataclasses import dataclass, field
from functools import partial

import jax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.fitted import Fitted, Learned
from foreplan.core.fitting import Fitting
from foreplan.planners.cem import CEM
from foreplan.planners.icem import ICEM
from foreplan.planners.random_shooting import RandomShooting
from foreplan.worlds.composed import Composed
from foreplan.worlds.ensemble import Network
from foreplan.worlds.fitting import WorldFitting
from foreplan.worlds.foresight import Foresight, imagined

PLAIN = Network(members=1, elites=1, probabilistic=False, layers=2)


@dataclass(frozen=True)
class MBMPC(Fitted):
    planner: RandomShooting | CEM | ICEM = field(default_factory=RandomShooting)
    network: Network = PLAIN

    def look_ahead(
        self, learner: Learned, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Foresight | Composed, Float32[Array, "obs"]]:
        """The network as a model to plan in, for any planner; its state is what is observed."""
        return jax.tree.map(lambda leaf: leaf[0], self.members(learner, self.effort)), obs

    @partial(jax.jit, static_argnames="self")
    def imagine(
        self, learner: Learned, obs: Float32[Array, "obs"], actions: Float32[Array, "time action"]
    ) -> dict[str, Float32[Array, "time *obs"]]:
        """What the network foretells of a sequence of actions, for the report."""
        return imagined(self.members(learner), obs, actions, particles=1)


SIZES: dict[str, MBMPC] = {
    "small": MBMPC(
        planner=RandomShooting(horizon=25, num_samples=1000),
        fitting=WorldFitting(Fitting(batch_size=32, max_epochs=50, patience=8)),
    )
}
