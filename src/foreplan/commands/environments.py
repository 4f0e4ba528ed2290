"""What can be asked about environments."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from foreplan.commands.common import Json, Result


@dataclass
class Envs:
    """List the environments that can be acted in here."""

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT", help="only names that contain it")] = ""
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs.names import available

        names = [name for name in available() if self.text in name]
        print(*names, "or package.module:factory, your own", sep="\n")
        return {"envs": names}


@dataclass
class Check:
    """Check that an environment keeps its contract, and that a reward written for it is its own."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    reward: str | None = None  # module:function of (before, action, after), compared on transitions of random actions
    terminated: str | None = None  # module:function of the same
    transitions: int = 2000  # to compare on
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs import names
        from foreplan.envs.contract import Report, check
        from foreplan.run.settings import at_least

        at_least("transitions", self.transitions, 1)
        given = {"reward": self.reward, "terminated": self.terminated}
        functions = {kind: names.factory(name, kind) for kind, name in given.items() if name is not None}
        report = check(self.env)
        if functions:
            from foreplan.sims.agreement import agreement

            agreed = agreement(self.env, transitions=self.transitions, **functions)
            report = Report(report.env, report.verdict, (*report.findings, *agreed))
        for finding in report.findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}  {finding.detail}".rstrip())
        print(f"rollback: {report.verdict}")
        if not report.ok:
            broken = ", ".join(finding.name for finding in report.findings if not finding.ok)
            print(f"{self.env} breaks its contract: {broken}")
        return report.json()
