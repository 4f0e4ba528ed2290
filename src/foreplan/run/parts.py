"""Parts that were fitted beforehand, each in a folder of its own: what it is, and what it was made for and from.

DIR/dynamics, DIR/reward, DIR/continuation, DIR/value, DIR/policy, each with

    state.json            kind, form (the configuration of its networks), spec (shapes, spaces), env, data (name,
                          fingerprint, size), scores on the hold-out set and their curve; versions
    weights.safetensors   networks and normalisers
    SHA256SUMS

written aside and renamed, like a checkpoint. Never pickle. What a run has learned is a part, too: the run's directory
stands for its dynamics, reward and continuation (mbmpc, pets, mbpo), for its policy (bc, dagger; sac and its variants,
mbpo) or for its value (those with critics, and mbmpc and pets where they learn one).
"""

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from foreplan.agents.bc import BC
from foreplan.core.errors import UsageError, unknown
from foreplan.core.types import LearnsParts, Spec
from foreplan.envs import names
from foreplan.run import checkpoint
from foreplan.run.settings import decode, encode, read_config, versions
from foreplan.worlds.composed import Parts
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.value import Value, ValueNetwork

Kind = Literal["dynamics", "reward", "continuation", "value", "policy"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TASK_FREE = ("dynamics",)  # what holds for every task of the same spaces
FORMS: dict[Kind, type] = {
    "dynamics": Network,
    "reward": Network,
    "continuation": Network,
    "value": ValueNetwork,
    "policy": BC,
}


@dataclass(frozen=True)
class Part:
    kind: Kind
    form: Any  # a `Network`, a `ValueNetwork` or a `BC`; of a run's also a `SAC`
    module: Any  # what stands in `worlds.composed.Parts`
    spec: Spec
    env: str  # "" where it is not known; an action repeat of 0 in `spec` is not known either
    data: dict[str, Any]
    scores: dict[str, float]
    curve: list[float]  # on the hold-out set, by epochs

    def save(self, out: Path) -> Path:
        """Into `out/kind`, in place of what is there."""
        about = {name: getattr(self, name) for name in ("kind", "env", "data", "scores", "curve")}
        about |= {"form": encode(self.form), "spec": dataclasses.asdict(self.spec), "versions": versions()}
        return checkpoint.write(out / self.kind, {"part": about, "weights": checkpoint.flatten(self.module)})

    def check(self, env: str, spec: Spec) -> None:
        """Raise UsageError, with the shapes of both, where the part was not made for this environment."""
        mine, theirs = shapes(self.spec), shapes(spec)
        if mine != theirs:
            origin = f" (made for {self.env})" if self.env else ""
            raise UsageError(f"the {self.kind}{origin} has {mine}; {env} has {theirs}")
        if self.spec.action_repeat not in (0, spec.action_repeat):
            raise UsageError(
                f"the {self.kind} has learned with action repeat {self.spec.action_repeat}, not {spec.action_repeat}"
            )
        if self.kind not in TASK_FREE and self.env not in ("", env):
            raise UsageError(f"the {self.kind} was made for {self.env}, not for {env}")


def shapes(spec: Spec) -> str:
    kind = "discrete" if spec.discrete else "continuous"
    return f"observations {list(spec.obs_shape)} and {spec.action_dim} {kind} actions"


def untrained(kind: Kind, form: Any, spec: Spec, key: Any) -> Any:
    """A part's networks, before any fit. Raises UsageError for a continuation where nothing can terminate."""
    if kind == "value":
        return Value.create(spec, form, key)
    if kind == "policy":
        return form.init(spec, key).policy
    asked: dict[str, Any] = {name: name == kind for name in KINDS[:3]}
    return EnsembleWorld.create(spec, form, key, **asked)


def is_part(name: str) -> bool:
    """Whether this can only be meant as a part's path, not as "module:function"."""
    return Path(name).is_dir() or (":" not in name and name != "own")


def load(path: Path | str, kind: Kind) -> Part:
    """The part in the folder `path`, or in its subfolder `kind`, or what the run in it has learned. Raises UsageError
    where there is none, or it is damaged, or of another kind."""
    if (Path(path) / "config.json").is_file():
        return of_run(Path(path), kind)
    folder = next((each for each in (Path(path), Path(path) / kind) if (each / checkpoint.STATE).is_file()), None)
    if folder is None:
        raise UsageError(f"{path} holds no {kind}: a folder that `foreplan fit` has written is needed")
    try:
        checkpoint.verify(folder)
        found = checkpoint.load(folder)
        about, weights = found["part"], found["weights"]
        spec = Spec(**about["spec"] | {"obs_shape": tuple(about["spec"]["obs_shape"])})
        form = _form(folder, about)
    except UsageError:
        raise
    except (checkpoint.Damaged, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(f"{folder} is damaged, or no part: {' '.join(str(error).split())}") from None
    if about["kind"] != kind:
        raise UsageError(f"{folder} is a {about['kind']}; a {kind} is needed here")
    like = jax.eval_shape(lambda: untrained(kind, form, spec, jax.random.key(0)))
    module = checkpoint.unflatten(like, weights)
    return Part(kind, form, module, spec, about["env"], about["data"], about["scores"], about["curve"])


def _form(folder: Path, about: dict[str, Any]) -> Any:
    """Nothing but the configurations that parts have is made, whatever a file names."""
    if about["kind"] not in KINDS:
        raise unknown("kind of part", about["kind"], KINDS)
    if not str(about["form"]["class"]).startswith("foreplan."):
        raise UsageError(f"{folder} names {about['form']['class']}, which is no form of a part")
    form = decode(about["form"])
    if type(form) is not FORMS[about["kind"]]:
        raise UsageError(f"{folder} is a {about['kind']} in the form of a {type(form).__name__}")
    return form


def of_run(out: Path, kind: Kind) -> Part:
    """The part that a run's newest whole checkpoint has. Raises UsageError where it has none of this kind."""
    agent, settings, _ = read_config(out)
    saved = checkpoint.load(checkpoint.newest_whole(out / checkpoint.FOLDER, print), "learner", "clock")
    with closing(names.make(settings.env, action_repeat=settings.action_repeat)) as env:
        spec = replace(env.spec, num_envs=1)
    learner = checkpoint.learner_of(agent, spec, saved)
    learned = agent.parts(learner) if isinstance(agent, LearnsParts) else {}
    if kind not in learned:
        raise UsageError(f"{out}: {type(agent).__name__} has learned no {kind} that stands by itself")
    return Part(kind, *learned[kind], spec, settings.env, {"name": f"run:{out}"}, {}, [])


def load_all(folder: str | None, paths: Mapping[Kind, str | None]) -> dict[Kind, Part]:
    """The parts that are named, and of those that are not the ones in `folder`. Raises UsageError where that holds
    none."""
    held: dict[Kind, str] = {}
    if folder is not None:
        held = {kind: folder for kind in KINDS if (Path(folder) / kind / checkpoint.STATE).is_file()}
        if not held and (Path(folder) / "config.json").is_file():
            raise UsageError(f"{folder} is a run: name it by the part that is wanted, such as --dynamics {folder}")
        if not held:
            raise UsageError(f"{folder} holds no parts: a folder that `foreplan fit` has written is needed")
    named = {kind: path for kind, path in paths.items() if path}
    return {kind: load(path, kind) for kind, path in (held | named).items()}


def together(parts: Mapping[Kind, Part]) -> Parts:
    return Parts(**{kind: part.module for kind, part in parts.items()})
