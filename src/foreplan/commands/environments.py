"""What can be asked about environments."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from foreplan.commands.common import Json, Result
from foreplan.core.errors import UsageError


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
    data: str | None = None  # PATH.npz, a run directory, minari:ns/name-v0: compare on what is recorded there instead,
    #                          functions of one (obs, action, next obs) in JAX, as training takes them
    json: Json = False

    def __call__(self) -> Result:
        from foreplan.envs import names
        from foreplan.envs.contract import Finding, Report, check
        from foreplan.run.settings import at_least

        at_least("transitions", self.transitions, 1)
        given = {"reward": self.reward, "terminated": self.terminated}
        asked = {kind: name for kind, name in given.items() if name is not None}
        functions = {kind: names.factory(name, kind) for kind, name in asked.items()}
        if self.data is not None and not functions:
            raise UsageError("data is given without --reward or --terminated, which are compared with it")
        agreed: list[Finding] = []
        recorded: Result = {}
        if self.data is not None:
            from foreplan.run.agreement import compare

            agreed, told = compare(self.env, self.data, asked)
            recorded = {"recorded": told}
        elif functions:
            from foreplan.sims.agreement import agreement

            agreed = agreement(self.env, transitions=self.transitions, **functions)
        report = check(self.env)
        report = Report(report.env, report.verdict, (*report.findings, *agreed))
        for finding in report.findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}  {finding.detail}".rstrip())
        print(f"rollback: {report.verdict}")
        wrong = [finding.name.split()[0] for finding in agreed if not finding.ok]
        broken = [finding.name for finding in report.findings if not finding.ok and finding not in agreed]
        if broken:
            print(f"{self.env} breaks its contract: {', '.join(broken)}")
        if wrong:
            print(f"not what {self.env} says: {', '.join(wrong)}")
        return report.json() | recorded
