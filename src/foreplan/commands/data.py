"""`foreplan data`: look at recorded data, record an expert's, and write them in another form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foreplan.commands.common import Json
from foreplan.core.errors import UsageError, unknown

Verb = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="VERB", help="inspect, record or convert")]
Name = Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA", help="PATH.npz, a run directory, minari:ns/name-v0")
]


@dataclass
class Data:
    """Look at data sets, record an expert's episodes, convert: data inspect, record, convert."""

    verb: Verb
    json: Json = False

    @staticmethod
    def of(argv: Sequence[str]) -> "type[Data]":
        """The options of the verb that the command line names."""
        verb = next((word for word in argv if not word.startswith("-")), None)
        if verb is not None and verb not in VERBS:
            raise unknown("verb of data", verb, VERBS)
        return Data if verb is None else VERBS[verb]

    def __call__(self) -> dict[str, Any]:
        raise UsageError("data needs a verb: inspect, record or convert")


@dataclass
class Inspect(Data):
    """Print shapes, ranges, returns and what is broken, and draw the returns."""

    data: Name = ""
    out: Path | None = None  # the picture; None: beside the data, or ./data.png

    def __call__(self) -> dict[str, Any]:
        from foreplan.data import names
        from foreplan.insight.dataset import draw, summary

        data = names.load(self.data, check=False)
        found = summary(data)
        for line in found.pop("lines"):
            print(line)
        beside = Path(self.data)
        picture = self.out or (beside.with_suffix(".png") if beside.is_file() else Path("data.png"))
        if len(data):
            draw(data, picture)
            print(f"returns drawn in {picture}")
        return found | {"picture": str(picture)}


@dataclass
class Record(Data):
    """Let an expert act, and record its episodes as demonstrations."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = ""
    expert: str = "plan"  # plan, a run directory, package.module:callable
    episodes: int = 20
    seed: int = 0
    action_repeat: int | None = None  # environment steps a decision; None: the environment's default
    noise: float = 0.0  # deviation of what disturbs the expert's actions, not their labels: it shows how it recovers
    out: str = "demos.npz"  # PATH.npz, minari:ns/name-v0 or lerobot:FOLDER; nothing may be there

    def __call__(self) -> dict[str, Any]:
        from foreplan.data import names
        from foreplan.run.cache import use_compilation_cache
        from foreplan.run.record import record
        from foreplan.run.settings import at_least

        at_least("episodes", self.episodes, 1)
        at_least("seed", self.seed, 0)
        names.check_free(self.out)
        use_compilation_cache()

        def each(episode: int, value: float, decisions: int) -> None:
            print(f"episode {episode}: return {value:.1f}, {decisions} decisions", flush=True)

        data = record(self.env, self.expert, self.episodes, self.seed, self.action_repeat, noise=self.noise, each=each)
        names.save(self.out, data)
        print(f"{len(data):,} steps in {self.out}, mean return {data.returns.mean():.2f}")
        return {"data": self.out, "steps": len(data), "returns": data.returns.tolist()}


@dataclass
class Convert(Data):
    """Write data in another form: PATH.npz, minari:ns/name-v0, lerobot:FOLDER."""

    data: Name = ""
    to: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TO")] = ""
    fps: int | None = None  # decisions a second, for lerobot: data, which have timestamps; None: 30

    def __call__(self) -> dict[str, Any]:
        from foreplan.data import names
        from foreplan.run.settings import at_least

        at_least("fps", 1 if self.fps is None else self.fps, 1)
        data = names.load(self.data)
        names.save(self.to, data, self.fps)
        print(f"{len(data):,} steps of {len(data.returns)} episodes in {self.to}")
        if self.to.startswith(names.LEROBOT):
            print(f"{data.intervention.sum():,} interventions; states only, no pictures")
        return {"data": self.to, "steps": len(data)}


VERBS: dict[str, type[Data]] = {"inspect": Inspect, "record": Record, "convert": Convert}
