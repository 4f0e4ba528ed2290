"""Many runs of one agent."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from foreplan import presets
from foreplan.commands.common import AgentName, Json, Result, Utd, at_utd, with_agent
from foreplan.core.errors import UsageError
from foreplan.run.settings import Settings

if TYPE_CHECKING:
    from foreplan.run.sweep import Cell


@dataclass
class Sweep:
    """Train an agent at several UTD ratios and seeds, a few runs at a time, and compare them.

    `foreplan sweep AGENT ENV --help` also lists the agent's own options.
    Called again, it continues what was interrupted, or with more --steps what was finished.
    """

    name: AgentName
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]  # its seed is the first
    utd: tuple[Utd, ...] = (1.0,)  # gradient updates a decision; auto: see --utd-*
    seeds: int = 1  # runs of each
    jobs: int = 1  # runs at a time
    size: str | None = None  # of the agent
    out: Path | None = None  # None: runs/sweep-AGENT-ENV
    json: Json = False
    agent: ClassVar[Any] = None  # a field where the agent is known, see `of`

    @staticmethod
    def of(argv: Sequence[str]) -> "type[Sweep]":
        return with_agent(Sweep, argv)

    def __call__(self) -> Result:
        from rich.live import Live

        from foreplan.insight.compare import compare
        from foreplan.run.settings import at_least
        from foreplan.run.sweep import results, sweep, table

        at_least("seeds", self.seeds, 1)
        agent = self.agent or presets.preset(self.name)  # which raises: only an unknown name leaves it None
        out = self.out or Path("runs") / f"sweep-{self.name}-{self.settings.env}".replace("/", "-").replace(":", "-")
        cells = [self.cell(agent, utd, i, out) for utd in self.utd for i in range(self.seeds)]
        refuse_changed(cells)
        with Live(get_renderable=lambda: table(cells, "UTD"), refresh_per_second=1) as live:
            failed = sweep(cells, self.jobs, self.name, live.refresh if sys.stdout.isatty() else lambda: None)
        done = [cell.out for cell in cells if cell not in failed]
        report = str(compare(done, out)) if done else None
        print(
            f"report: {report}" if done else "no run is finished; see the .log files", f"in {out}" if not done else ""
        )
        return {"ok": not failed, "out": str(out), "report": report, "runs": results(cells)}

    def cell(self, agent: Any, utd: Utd, number: int, out: Path) -> "Cell":
        from foreplan.run.sweep import Cell

        label, seed = utd if isinstance(utd, str) else f"{utd:g}", self.settings.seed + number
        agent, settings = at_utd(utd, agent, self.settings)
        return Cell(label, agent, dataclasses.replace(settings, seed=seed), out / f"utd{label}-s{seed}")


def refuse_changed(cells: "Sequence[Cell]") -> None:
    """Raise UsageError where a run was begun with other options than it would be continued with."""
    from foreplan.insight.page import flat
    from foreplan.run.settings import encode, read_config

    for cell in cells:
        if not (cell.out / "config.json").is_file():
            continue
        agent, settings, _ = read_config(cell.out)
        before = flat({"agent": encode(agent), "run": dataclasses.asdict(settings)})
        now = flat({"agent": encode(cell.agent), "run": dataclasses.asdict(cell.settings)})
        for name in sorted((before.keys() | now.keys()) - {"run.steps"}):
            if before.get(name) != now.get(name):
                raise UsageError(
                    f"{cell.out} was begun with {name} {before.get(name)}, not {now.get(name)}; accepted: the same"
                    " options, or another --out"
                )
