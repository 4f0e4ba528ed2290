"""Begin a run, or go on with one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from foreplan import presets
from foreplan.commands.common import AgentName, Directory, Json, Result, Utd, at_utd, display, finish, with_agent
from foreplan.core.errors import UsageError
from foreplan.run.settings import Settings


@dataclass
class Train:
    """Train an agent and write a run directory.

    `foreplan train AGENT ENV --help` also lists the agent's own options.
    """

    name: AgentName
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]
    size: str | None = None  # of the agent; None: its first, made for a CPU
    out: Path | None = None  # the run directory; None: runs/AGENT-ENV-sSEED
    utd: Utd | None = None  # gradient updates a decision; None: the agent's; auto: see --utd-*
    expert: str | None = None  # of dagger: plan, a run directory, package.module:callable
    incumbent: Path | None = None  # a run that the new one must beat in the end to be accepted
    confidence: float = 0.95  # with which it must be better
    json: Json = False
    agent: ClassVar[Any] = None  # a field where the agent is known, see `of`

    @staticmethod
    def of(argv: Sequence[str]) -> "type[Train]":
        return with_agent(Train, argv)

    def __call__(self) -> Result:
        from foreplan import guard
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.loop import train

        agent = self.agent or presets.preset(self.name)  # which raises: only an unknown name leaves it None
        agent, self.settings = at_utd(self.utd, agent, self.settings)
        if self.expert is not None:
            if not hasattr(agent, "expert"):
                raise UsageError(f"{self.name} asks no expert; dagger does")
            agent = dataclasses.replace(agent, expert=self.expert)
        if getattr(agent, "offline", False):  # acting adds nothing to what it learns
            if self.settings.warm.demos is None:
                raise UsageError(f"{self.name} learns from demonstrations alone: name some with --demos")
            self.settings = dataclasses.replace(self.settings, steps=1)
        place = f"{self.name}-{self.settings.env}-s{self.settings.seed}".replace("/", "-").replace(":", "-")
        use_compilation_cache()
        out = self.out or Path("runs") / place
        if self.incumbent is None:
            return finish(train(agent, self.settings, out, name=self.name, display=display()))
        guard.check(self.incumbent, self.confidence)
        answer = finish(train(agent, self.settings, out, name=self.name, display=display()))
        judgement = guard.guard(out, self.incumbent, max(20, self.settings.eval_episodes), self.confidence)
        print(judgement)
        return answer | {"accepted": judgement.accepted}


@dataclass
class Resume:
    """Continue a run from its newest whole checkpoint."""

    dir: Directory
    steps: int | None = None  # environment steps in all; None: as the run was begun
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.loop import resume

        use_compilation_cache()
        return finish(resume(self.dir, steps=self.steps, display=display()))
