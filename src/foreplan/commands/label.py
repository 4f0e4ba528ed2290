"""`foreplan label`, as a command of the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foreplan.commands.common import Json


@dataclass
class Label:
    """Serve a page on which people label the states that a run's policy visits."""

    dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    strategy: str = "random"  # of asking first: random, all, wavering, disagreement, value-drop, planner
    states: int = 200  # asked about for each policy
    episodes: int = 5  # played to find them; a retrained policy is evaluated on as many
    planner: str | None = None  # proposes an action in every state, looking ahead in the true environment
    guard: float | None = None  # accept a retrained policy by itself where it is better with this confidence
    host: str = "127.0.0.1"  # another one lets others in who have the token
    port: int = 8421  # 0: any that is free
    json: Json = False

    def __call__(self) -> dict[str, Any]:
        from foreplan.label.serve import serve
        from foreplan.label.session import Options
        from foreplan.run.cache import use_compilation_cache

        use_compilation_cache()
        options = Options(self.strategy, self.states, self.episodes, self.planner, self.guard)
        return serve(self.dir, options, self.host, self.port)
