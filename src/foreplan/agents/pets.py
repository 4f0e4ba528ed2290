"""PETS (Chua, Calandra, McAllister, Levine: "Deep Reinforcement Learning in a Handful of Trials using Probabilistic
Dynamics Models", NeurIPS 2018, algorithm 1).

 1. act at random for one episode                                       `seed_steps`
 2. after each episode, fit the ensemble to all data so far             `refit_every`, `refit` (worlds/fitting.py)
 3. for every decision, a planner asks again and again                  `act`
      a. for candidate sequences of actions, from the last plan on      planners/icem.py, planners/cem.py
      b. what becomes of particles that follow them through the         `look_ahead`
         ensemble: each keeps to one member (TS-inf), or every step
         is another member's (TS-1)
      c. for the mean of the particles' returns                         `core.model.returns`, planners/risk.py
    and does the plan's first action

Differences from the authors' code, each on purpose: episodes are held out for early stopping and to rank the members;
reward and end may be learned, and the probability of an end enters the discount; members differ by their weights at the
beginning and by their draws of the data, not by bootstraps of it; candidates share random numbers; the default planner
is iCEM with a hundredth of the candidates. The size `paper` has the paper's planner.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import jax
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.agents.fitted import Fitted, Learned
from foreplan.agents.planned_value import BRIEF, ValuePlanning
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting
from foreplan.planners.cem import CEM
from foreplan.planners.icem import ICEM
from foreplan.planners.risk import CVaR, Draws, Mean, MeanMinusDeviation, Members
from foreplan.worlds.ensemble import Network
from foreplan.worlds.fitting import WorldFitting
from foreplan.worlds.foresight import Switching, imagined


@dataclass(frozen=True)
class PETS(Fitted):
    planner: ICEM | CEM = field(default_factory=ICEM)
    risk: Mean | CVaR | MeanMinusDeviation = field(default_factory=Mean)
    propagation: Literal["ts-inf", "ts-1"] = "ts-inf"
    particles: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.propagation not in ("ts-inf", "ts-1"):
            raise UsageError(f"propagation is {self.propagation!r}; accepted: 'ts-inf', 'ts-1'")
        if self.particles < 1 or (self.propagation == "ts-inf" and self.particles % self.network.elites):
            raise UsageError(f"particles is {self.particles}; accepted: multiples of the elites, {self.network.elites}")

    def look_ahead(
        self, learner: Learned, obs: Float32[Array, "obs"], key: PRNGKeyArray
    ) -> tuple[Members | Draws, Float32[Array, "obs"]]:
        """The elites as a model to plan in, for any planner; its state is what is observed."""
        members = self.members(learner, self.effort)
        if self.propagation == "ts-1":
            return Draws(Switching(members), self.risk, self.particles), obs
        return Members(members, self.risk, self.particles // self.network.elites), obs

    @partial(jax.jit, static_argnames="self")
    def imagine(
        self, learner: Learned, obs: Float32[Array, "obs"], actions: Float32[Array, "time action"]
    ) -> dict[str, Float32[Array, "time *obs"]]:
        """What the ensemble foretells of a sequence of actions, for the report."""
        return imagined(self.members(learner), obs, actions)


SIZES: dict[str, PETS] = {
    # The CPU default: few, correlated, warm-started candidates; one particle a member.
    "small": PETS(
        planner=ICEM(horizon=25, num_samples=50, num_elites=10, iterations=3, decay=1.0),
        network=Network(members=5, elites=5, layers=3),
        fitting=WorldFitting(Fitting(batch_size=32, max_epochs=50, patience=8)),
    ),
    # For tasks whose reward says nothing within a horizon: a value beyond it, and rare transitions learned too.
    "valued": PETS(
        planner=ICEM(horizon=20, num_samples=50, num_elites=10, iterations=3, decay=1.0, std=0.2, min_std=0.02),
        network=Network(members=3, elites=3, layers=3),
        fitting=WorldFitting(Fitting(batch_size=64, max_epochs=150, patience=15), beta=0.5),
        effort=0.3,
        value="plan",
        value_planning=ValuePlanning(replace(BRIEF, std=0.2, min_std=0.02)),
        every=500,
        min_seed_steps=250,
        particles=3,
    ),
    "paper": PETS(
        planner=CEM(horizon=25, num_samples=400, num_elites=40, iterations=5, momentum=0.1, warm_std=0.0),
        network=Network(members=5, elites=5, layers=3, width=500),
        fitting=WorldFitting(Fitting(batch_size=32, max_epochs=50, patience=8)),
        particles=20,
    ),
}
