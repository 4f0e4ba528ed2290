"""Transitions that somebody has recorded, episode after episode, with what experts have said of them.

The arrays are those of the replay buffer (`core.types.Step`) and four more that say who would have done what:

    label         [step, action]   what an expert would have done; in a demonstration the action itself
    labelled      [step]           whether there is such a label: a skipped state has none
    intervention  [step]           whether the expert was in charge, so that the action is the expert's own; False
                                   where nobody has said so
    source        [step]           the label's provenance: an index into `about.sources`, -1 where there is no label
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foreplan.core.errors import UsageError
from foreplan.core.spec import Spec


@dataclass(frozen=True)
class Source:
    """Where labels come from."""

    who: str  # "human:anna", "plan:icem", "run:runs/x", "callable:module:name", "demonstration"
    policy: str = ""  # the policy that visited the states: "expert", or its version, such as "round-003"
    when: float = 0.0  # seconds since 1970; 0 where it is not known


@dataclass(frozen=True)
class About:
    """What must be known of the environment that the data are from; "" and 0 where it is not known."""

    env: str = ""
    discrete: bool = False
    action_repeat: int = 0
    sources: tuple[Source, ...] = ()
    rewards: bool = True  # whether any were recorded; else all are 0 and mean nothing


@dataclass(frozen=True)
class Fault:
    """Something wrong: in which episode (-1: in none), in which array, and what."""

    episode: int
    field: str
    detail: str

    def __str__(self) -> str:
        where = f"episode {self.episode}, " if self.episode >= 0 else ""
        return f"{where}{self.field}: {self.detail}"


@dataclass(frozen=True)
class Dataset:
    """Arrays [step, ...] in the order in which they happened; the steps of an episode stand together."""

    obs: np.ndarray  # float32 [step, obs]
    action: np.ndarray  # float32 [step, action] in [-1, 1]; one-hot where actions are discrete
    reward: np.ndarray  # float32 [step]
    terminated: np.ndarray  # bool [step]
    truncated: np.ndarray  # bool [step]
    next_obs: np.ndarray  # float32 [step, obs]
    episode: np.ndarray  # int32 [step]
    label: np.ndarray  # float32 [step, action]
    labelled: np.ndarray  # bool [step]
    intervention: np.ndarray  # bool [step]
    source: np.ndarray  # int32 [step]
    about: About = field(default_factory=About)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in DTYPES}

    def episodes(self) -> Iterator[tuple[int, slice]]:
        """(number, where its steps are) of each run of steps with one episode number."""
        edges = np.flatnonzero(np.diff(self.episode)) + 1
        bounds = [0, *edges.tolist(), len(self)] if len(self) else []
        for begin, end in itertools.pairwise(bounds):
            yield int(self.episode[begin]), slice(begin, end)

    @property
    def returns(self) -> np.ndarray:
        """The sum of rewards of each episode, float64."""
        return np.array([np.sum(self.reward[steps], dtype=np.float64) for _, steps in self.episodes()])

    @property
    def fingerprint(self) -> str:
        """The same for the same steps, wherever they are stored."""
        digest = hashlib.sha256()
        for name in sorted(DTYPES):
            digest.update(name.encode() + np.ascontiguousarray(self.arrays[name]).tobytes())
        return digest.hexdigest()

    def take(self, episodes: int | None = None, every: int = 1) -> "Dataset":
        """The first `episodes` (None: all) of every so many-th episode."""
        wanted = [steps for _, steps in self.episodes()][::every][:episodes]
        rows = np.concatenate([np.arange(steps.start, steps.stop) for steps in wanted] or [np.arange(0)])
        taken: dict[str, Any] = {name: array[rows] for name, array in self.arrays.items()}
        return dataclasses.replace(self, **taken)

    def labels_of_best(self, share: float) -> "Dataset":
        """With the labels of a share of the episodes alone, those of the highest returns; of one at least."""
        number = max(1, round(share * len(self.returns)))
        best = set(np.argsort(-self.returns, kind="stable")[:number].tolist())
        kept = np.concatenate([np.full(s.stop - s.start, i in best) for i, (_, s) in enumerate(self.episodes())])
        labelled = self.labelled & kept
        return dataclasses.replace(self, labelled=labelled, source=np.where(labelled, self.source, -1))

    def check_spec(self, spec: Spec, env: str, name: str) -> None:
        """Raise UsageError where these data, called `name`, are of another space than the environment `env`."""
        wanted = (*spec.obs_shape, spec.action_dim, spec.discrete)
        found = (self.obs.shape[1], self.action.shape[1], self.about.discrete)
        names = ("observations of size", "actions of size", "discrete actions:")
        for what, mine, theirs in zip(names, found, wanted, strict=True):
            if mine != theirs:
                origin = f" of {self.about.env}" if self.about.env else ""
                raise UsageError(f"{name}{origin} has {what} {mine}; {env} has {theirs}")
        if self.about.action_repeat not in (0, spec.action_repeat):
            raise UsageError(
                f"{name} was recorded with action repeat {self.about.action_repeat}; here it is {spec.action_repeat}"
            )


DTYPES: dict[str, Any] = {
    "obs": np.float32,
    "action": np.float32,
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "next_obs": np.float32,
    "episode": np.int32,
    "label": np.float32,
    "labelled": np.bool_,
    "intervention": np.bool_,
    "source": np.int32,
}
VECTORS = ("obs", "action", "next_obs", "label")


def demonstration(about: About, **arrays: np.ndarray) -> Dataset:
    """A data set in which every action is its own label. `arrays` are the first seven of `Dataset`; `label` where the
    expert would have done something else, and `labelled` where it did not always know."""
    whole = {name: np.asarray(array, DTYPES[name]) for name, array in arrays.items()}
    labelled = whole.pop("labelled", np.ones(len(whole["reward"]), np.bool_))
    label = whole.pop("label", whole["action"])
    return Dataset(
        **whole,
        label=label,
        labelled=labelled,
        intervention=labelled,
        source=np.where(labelled, 0, -1).astype(np.int32),
        about=dataclasses.replace(about, sources=about.sources or (Source("demonstration", "expert"),)),
    )


def join(parts: Sequence[Dataset]) -> Dataset:
    """One after another. Episodes are numbered anew and sources kept once each; `about` is the first one's."""
    first = parts[0]
    sources = tuple(dict.fromkeys(source for part in parts for source in part.about.sources))
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in DTYPES}
    begun = 0
    for part in parts:
        if (part.obs.shape[1], part.action.shape[1]) != (first.obs.shape[1], first.action.shape[1]):
            raise UsageError("data sets of different spaces cannot be joined")
        moved = np.array([sources.index(source) for source in part.about.sources] + [-1], np.int32)
        numbers = [
            np.full(steps.stop - steps.start, begun + i, np.int32) for i, (_, steps) in enumerate(part.episodes())
        ]
        begun += len(numbers)
        renewed = {"source": moved[part.source], "episode": np.concatenate([*numbers, np.zeros(0, np.int32)])}
        for name, array in (part.arrays | renewed).items():
            arrays[name].append(array)
    about = dataclasses.replace(first.about, sources=sources)
    return Dataset(**{name: np.concatenate(many) for name, many in arrays.items()}, about=about)


def faults(data: Dataset) -> list[Fault]:
    """All that is wrong: NaN, actions out of bounds, episodes that are torn or come back; empty where all is well."""
    found: list[Fault] = []
    seen: set[int] = set()
    for number, steps in data.episodes():
        if number in seen:
            found.append(Fault(number, "episode", "its steps do not stand together"))
        seen.add(number)
        found += [fault for fault in _episode_faults(data, number, steps) if fault]
    return found


def _episode_faults(data: Dataset, number: int, steps: slice) -> Iterator[Fault]:
    def at(bad: np.ndarray) -> str:
        return f"step {int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])}"

    for name in ("obs", "action", "reward", "next_obs", "label"):
        bad = ~np.isfinite(data.arrays[name][steps])
        if bad.any():
            yield Fault(number, name, f"{at(bad)} is not finite")
    for name, counts in (("action", slice(None)), ("label", data.labelled[steps])):
        actions = data.arrays[name][steps][counts]
        if (np.abs(actions) > 1.0 + 1e-6).any():
            yield Fault(number, name, f"{at(np.abs(actions) > 1.0 + 1e-6)} leaves [-1, 1]")
        if data.about.discrete and ((actions.max(axis=1) != 1.0) | (actions.sum(axis=1) != 1.0)).any():
            yield Fault(number, name, f"{at(actions.sum(axis=1) != 1.0)} is not one-hot")
    torn = (data.obs[steps][1:] != data.next_obs[steps][:-1]).any(axis=1)
    if torn.any():
        yield Fault(number, "next_obs", f"{at(torn)} is not followed by the observation it led to")
    ended = (data.terminated | data.truncated)[steps]
    if ended[:-1].any():
        yield Fault(number, "terminated", f"{at(ended[:-1])} ends the episode, which goes on")
    sources = data.source[steps][data.labelled[steps]]
    if ((sources < 0) | (sources >= len(data.about.sources))).any():
        yield Fault(number, "source", "a label's provenance is not among the sources")
