"""What a run is: its settings, and `config.json`, from which agent and environment are rebuilt."""

import dataclasses
import importlib
import importlib.metadata
import json
import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from foreplan.core.errors import UsageError
from foreplan.core.machine import cores, processor
from foreplan.core.spec import Spec
from foreplan.run.adapt import Adapt

if TYPE_CHECKING:  # JAX takes a second to import, which `--help` need not wait for
    from foreplan.core.types import Agent

MAX_UTD = 1000  # updates a decision; the field uses up to 40
MAX_SEED = 2**31 - 1  # seeds above are kept for evaluation
RENAMED = {"continuation": "terminated"}  # fields of agents, as they are called in older run directories


@dataclass(frozen=True)
class Warm:
    """What to begin with, besides nothing."""

    demos: str | None = None  # demonstrations: PATH.npz, a folder of rounds, minari:ns/name-v0
    demo_share: float = 0.25  # of every batch
    pretrain: int = 0  # gradient updates from demonstrations alone, before the first step
    init: str | None = None  # a run directory: of the same agent to go on from, of another to act in the seed steps
    parts: str | None = None  # a folder of parts, written by `foreplan fit`, to begin with; or single ones:
    dynamics: str | None = None
    reward: str | None = None
    continuation: str | None = None
    value: str | None = None  # beyond the horizon of mbmpc and pets; fitted further where --agent.value says to what
    policy: str | None = None  # acts in the seed steps
    freeze: bool = False  # these parts are never fitted further

    def __post_init__(self) -> None:
        at_least("pretrain", self.pretrain, 0)
        if not 0.0 <= self.demo_share < 1.0:
            raise UsageError(f"demo-share is {self.demo_share}; accepted: numbers from 0 to below 1")
        if self.pretrain and self.demos is None:
            raise UsageError(f"pretrain is {self.pretrain} without --demos; there is nothing to learn from")
        if self.freeze and not any((self.parts, self.dynamics, self.reward, self.continuation, self.value)):
            raise UsageError("freeze is given without parts; name some with --parts, --dynamics, --reward")
        if self.init is not None and self.policy is not None:
            raise UsageError("init and policy are both given; one says what the run begins with, or who acts first")


@dataclass(frozen=True)
class Settings:
    """How long to train, on what, and what to write down. Steps are environment steps: decisions x action repeat."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]  # see `foreplan envs`
    steps: int = 100_000  # environment steps in all
    seed: int = 0
    num_envs: int = 1  # environments that are stepped together
    action_repeat: int | None = None  # environment steps a decision; None: the environment's default
    asynchronous: Literal["auto", "yes", "no"] = "auto"  # environments in worker processes; auto: where steps are slow
    eval_every: int = 10_000  # environment steps
    eval_episodes: int = 10
    log_every: int = 1_000  # environment steps
    save_every: int = 10_000  # environment steps between checkpoints
    keep: int = 3  # checkpoints
    buffer: int = 1_000_000  # transitions in the replay buffer, at most
    tensorboard: bool = False  # also write TensorBoard's files
    precision: Literal["bfloat16"] | None = None  # of what networks multiply; sums stay float32. None: JAX's own
    warm: Annotated[Warm, tyro.conf.OmitArgPrefixes] = field(default_factory=Warm)
    adapt: Annotated[Adapt, tyro.conf.OmitArgPrefixes] = field(default_factory=Adapt)

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "eval_every", "eval_episodes", "log_every", "save_every", "keep", "buffer"):
            at_least(name, getattr(self, name), 1)
        if self.action_repeat is not None:
            at_least("action_repeat", self.action_repeat, 1)
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; accepted: whole numbers from 0 to {MAX_SEED}")


@dataclass(frozen=True)
class Planning:
    """What to plan, and in which model."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]  # see `foreplan envs`
    model: str = "sim"  # what is planned in: "sim", the environment itself, or the directory of a run that has learned
    episodes: int = 1
    seed: int = 0
    action_repeat: int | None = None  # environment steps a decision; None: the task's, or the environment's default
    reward: str | None = None  # module:function of (before, action, after), a part, or "own": what to plan for
    terminated: str | None = None  # module:function of the same, where episodes end
    parts: str | None = None  # a folder of parts, written by `foreplan fit`: each counts, where none is named for it
    dynamics: str | None = None  # a part, planned in instead of the environment
    continuation: str | None = None  # a part, instead of where episodes truly end
    value: str | None = None  # a part, what lies beyond the horizon
    policy: str | None = None  # a part, whose actions are proposals
    caution: float = 0.0  # deviations among the networks of dynamics and value that a return is lowered by
    inexact: bool = False  # also plan in a simulator that cannot be restored exactly
    coarse: int = 1  # plan in physics steps that are so many times as long: less exact, and faster by as much
    video: bool = False  # film the first episode

    def __post_init__(self) -> None:
        at_least("episodes", self.episodes, 1)
        at_least("seed", self.seed, 0)
        at_least("coarse", self.coarse, 1)
        if self.action_repeat is not None:
            at_least("action_repeat", self.action_repeat, 1)
        if not 0.0 <= self.caution < float("inf"):
            raise UsageError(f"caution is {self.caution}; accepted: finite numbers from 0")
        if self.terminated is not None and self.reward is None:
            raise UsageError("terminated is given without reward; both make one task")
        if self.model != "sim" and any((self.parts, self.dynamics, self.continuation, self.value, self.policy)):
            raise UsageError(f"parts are exchanged in a simulator or make a model of their own: not in {self.model}")

    def with_defaults(self, action_repeat: int | None, reward: str | None) -> "Planning":
        """With these where nothing else is asked for; the reward "own" is the task's own."""
        reward = reward if self.reward is None else None if self.reward == "own" else self.reward
        return dataclasses.replace(self, action_repeat=self.action_repeat or action_repeat, reward=reward)


@dataclass(frozen=True)
class Diagnosing:
    """How much to look at."""

    episodes: int = 2  # one on each seed
    decisions: int = 25  # of each episode that count
    whole: int = 1000  # of an episode, at most, in which what the model foretells is compared with what comes
    beyond: int = 10  # decisions beyond the horizon, where the value is true
    times: int = 10  # how many times larger the oracle's planning budget is
    most: int = 2000  # candidates a decision, which the oracle has at most
    seed: int = 0
    inexact: bool = False  # also where the environment cannot be restored exactly
    video: bool = True  # film the first episode, beside what the model imagined of it

    def __post_init__(self) -> None:
        for name in ("episodes", "decisions", "whole", "beyond", "times", "most"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name.replace('_', '-')} is {value}; accepted: whole numbers from {least} up")


def check_agent(agent: "Agent", settings: Settings) -> None:
    """Refuse numbers that no agent can use: NaN or infinite, however deep, and a UTD ratio out of bounds."""
    refuse_non_finite(agent)
    if not 0 <= agent.utd <= MAX_UTD:
        raise UsageError(f"utd is {agent.utd}; accepted: numbers from 0 to {MAX_UTD}")
    if settings.adapt.on and not hasattr(agent, "hold_out_losses"):
        raise UsageError(
            f"utd is auto, but {type(agent).__name__} has no loss on held-out episodes; accepted: a number"
        )


def check_data(agent: "Agent", settings: Settings, spec: Spec) -> None:
    """Refuse updates before there are data to learn from."""
    updates = agent.utd > 0 or settings.adapt.on
    if updates and agent.seed_steps(spec) < 1 and settings.warm.demos is None:
        raise UsageError(
            "the seed steps are 0, so that the first updates have no data; accepted: 1 and more, or --demos"
        )


def check_actions(actor: Any, env: str, spec: Spec) -> None:
    """Refuse an agent or a planner for an environment whose actions are of another kind than its `action_kinds`, by
    default only "continuous"."""
    kinds = getattr(actor, "action_kinds", ("continuous",))
    kind = "discrete" if spec.discrete else "continuous"
    if kind not in kinds:
        name = type(actor).__name__
        raise UsageError(f"{name} chooses {' or '.join(kinds)} actions, and those of {env} are {kind}")


def refuse_non_finite(config: Any, path: str = "agent") -> None:
    for each in dataclasses.fields(config):
        value, name = getattr(config, each.name), f"{path}.{each.name}"
        if dataclasses.is_dataclass(value):
            refuse_non_finite(value, name)
        elif isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{name} is {value}; accepted: finite numbers")


def encode(value: Any) -> Any:
    """A configuration as JSON: dataclasses name their class, so that `decode` can rebuild them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"class": name} | {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a configuration holds numbers, strings, tuples and dataclasses, not {value!r}")


def decode(value: Any) -> Any:
    """The inverse of `encode`; lists become tuples, for configurations are hashable."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    module, _, name = value["class"].partition(":")
    configuration = getattr(importlib.import_module(module), name)
    if not dataclasses.is_dataclass(configuration):
        raise TypeError(f"{value['class']} is not a dataclass")
    make: Any = configuration
    known = {each.name for each in dataclasses.fields(configuration)}
    given = {key: decode(item) for key, item in value.items() if key != "class"}
    return make(**{key if key in known else RENAMED.get(key, key): item for key, item in given.items()})


def write_config(out: Path, agent: "Agent", settings: Settings, name: str) -> None:
    config = {
        "name": name,
        "agent": encode(agent),
        "run": dataclasses.asdict(settings),
        "versions": versions(),
        "hardware": hardware(),
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".config.json.partial"
    partial.write_text(json.dumps(config, indent=2) + "\n")
    partial.rename(out / "config.json")


def read_config(out: Path) -> tuple["Agent", Settings, dict[str, Any]]:
    """Agent, settings and the whole document of a run directory. Raises UsageError where there is none."""
    path = out / "config.json"
    if not path.is_file():
        raise UsageError(f"{out} is not a run directory: it has no config.json")
    try:
        config = json.loads(path.read_text())
        run = config["run"]
        return decode(config["agent"]), _settings(run), config
    except (KeyError, TypeError, json.JSONDecodeError, ImportError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read: {error!r}") from error


def _settings(run: dict[str, Any]) -> Settings:
    parts = {"warm": Warm(**run.get("warm", {})), "adapt": Adapt(**run.get("adapt", {}))}
    return Settings(**run | parts)


def versions() -> dict[str, str]:
    packages = ("foreplan", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "mujoco", "dm-control")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a source tree that was not installed
            continue
    return found


def hardware() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    return {
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": cores(),
        "device": f"{device.platform}: {device.device_kind}",
    }
