"""`foreplan fit`: parts from recorded data, each on a target and a loss of its own, and each by itself in a folder.

    dynamics       likelihood of the next observation; of a network that is not probabilistic, squared error
    reward         squared error of the reward
    continuation   class-balanced cross-entropy of termination
    value          squared error of the return to go, the lambda-return or the TD target     (worlds/value.py)
    policy         behavioural cloning, of all episodes or of the best                       (agents/bc.py)

All see the same division of the episodes into those to train on and those that are held out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from foreplan.agents.bc import BC, WHOLE
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Split
from foreplan.core.replay import Replay
from foreplan.core.types import Spec
from foreplan.data import names, npz
from foreplan.data.dataset import Dataset
from foreplan.run.parts import KINDS, Kind, Part, untrained
from foreplan.run.randomness import Keys
from foreplan.run.record import replayed
from foreplan.run.settings import MAX_SEED
from foreplan.run.warm import buffer
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.fitting import WorldFitting, refit_with_curves
from foreplan.worlds.value import ValueFitting, ValueNetwork, fit_value

Say = Callable[[str], None]
WORLD: tuple[Kind, ...] = ("dynamics", "reward", "continuation")  # fitted side by side


@dataclass(frozen=True)
class Pretraining:
    """What to fit to what. The networks of dynamics, reward and continuation are `network`, fitted as `world` says."""

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATASET")]  # PATH.npz, a run, minari:ns/name-v0
    parts: tuple[Kind, ...] = ()  # which; none: all that the data allow
    episodes: int | None = None  # the first so many alone; None: all
    every: int = 1  # every so many-th episode alone: of a run's buffer some from all its stages
    seed: int = 0
    network: Network = field(default_factory=lambda: Network(members=5, elites=5, layers=3))
    world: WorldFitting = field(default_factory=WorldFitting)
    value_network: ValueNetwork = field(default_factory=ValueNetwork)
    value: ValueFitting = field(default_factory=ValueFitting)
    policy: BC = field(default_factory=lambda: BC(members=5, fitting=replace(WHOLE, hold_out=0.1)))
    policy_share: float = 1.0  # of the episodes, those of the highest returns, that the policy is fitted to

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; accepted: whole numbers from 0 to {MAX_SEED}")
        if self.episodes is not None and self.episodes < 1:
            raise UsageError(f"episodes is {self.episodes}; accepted: whole numbers from 1 up")
        if self.every < 1:
            raise UsageError(f"every is {self.every}; accepted: whole numbers from 1 up")
        if not 0.0 < self.policy_share <= 1.0:
            raise UsageError(f"policy-share is {self.policy_share}; accepted: numbers above 0, up to 1")


def fit_parts(config: Pretraining, out: Path, say: Say = print) -> list[Part]:
    """Fit, and save each part in `out` as soon as it is there. Raises UsageError for data that hold nothing to learn a
    part from that was asked for; what was not asked for is left out, and said so."""
    data = load_data(config.data, say).take(config.episodes, config.every)
    if not len(data):
        raise UsageError(f"{config.data} is empty")
    spec, kinds = spec_of(data), possible(config, data, say)
    replay = buffer(data, Replay.create(spec, 1, config.policy.extras(spec)))
    held = int(jnp.sum(Split.of(replay, config.world.fitting).trained)) < len(data)
    say(f"{len(data):,} steps of {len(data.returns)} episodes" + ("" if held else "; too few to hold any out"))
    about: dict[str, Any] = {"name": config.data, "fingerprint": data.fingerprint}
    about |= {"steps": len(data), "episodes": len(data.returns), "held_out": held}
    made = []
    for kind, form, module, scores, curve in fitted(config, kinds, spec, data, replay, say):
        part = Part(kind, form, module, spec, data.about.env, about, scores, curve)
        path = part.save(out)
        say(f"{kind}: {', '.join(f'{name} {value:.4g}' for name, value in scores.items())}; in {path}")
        made.append(part)
    return made


def load_data(name: str, say: Say) -> Dataset:
    """A data set by name, or what a run's buffer holds."""
    if (Path(name) / "config.json").is_file() and not (Path(name) / npz.FOLDER).is_dir():
        return replayed(Path(name), say)
    return names.load(name, rewards=False)


def spec_of(data: Dataset) -> Spec:
    """Of the environment, as far as the data say it."""
    about = data.about
    return Spec(
        obs_shape=data.obs.shape[1:],
        action_dim=data.action.shape[1],
        action_repeat=about.action_repeat,
        terminates=bool(data.terminated.any()),
        discrete=about.discrete,
    )


def possible(config: Pretraining, data: Dataset, say: Say) -> list[Kind]:
    """The parts to fit. Raises UsageError where one was asked for that cannot be."""
    missing: dict[Kind, str] = {}
    if not data.about.rewards:
        if config.policy_share < 1.0:
            raise UsageError(f"{config.data} holds no rewards: policy-share cannot tell which episodes are the best")
        missing |= dict.fromkeys(("reward", "value"), "holds no rewards")
    if not data.terminated.any():
        missing["continuation"] = "holds no termination: nothing says where episodes end"
    if not data.labelled.any():
        missing["policy"] = "holds no labels"
    for kind, why in missing.items():
        if kind in config.parts:
            raise UsageError(f"{config.data} {why}, so that no {kind} can be fitted")
        if not config.parts:
            say(f"no {kind}: {config.data} {why}")
    return [kind for kind in KINDS if kind in (config.parts or KINDS) and kind not in missing]


Found = tuple[Kind, Any, Any, dict[str, float], list[float]]  # kind, form, module, scores, curve


def fitted(
    config: Pretraining, kinds: list[Kind], spec: Spec, data: Dataset, replay: Replay, say: Say
) -> Iterator[Found]:
    keys = Keys(config.seed)
    if learned := [kind for kind in WORLD if kind in kinds]:
        say(f"fitting {', '.join(learned)} ...")
        asked: dict[str, Any] = {kind: kind in learned for kind in WORLD}
        world = EnsembleWorld.create(spec, config.network, keys("init", 0), **asked)
        world, metrics, curves = refit_with_curves(world, replay, config.world, keys("refit", 0))
        for kind in learned:
            own = np.nanmin(np.asarray(curves[kind]), axis=1)  # each member's best
            elites = np.argsort(own)[: config.network.elites].astype(np.int32)
            scores = {"error": float(own[elites].mean()), "epochs": float(metrics["epochs"])}
            yield kind, config.network, world.only(kind, jnp.asarray(elites)), scores, mean_curve(curves[kind])
    if "value" in kinds:
        say(f"fitting the value to the {config.value.target} ...")
        value = untrained("value", config.value_network, spec, keys("init", 1))
        value, metrics, curves = fit_value(value, replay, config.value, keys("refit", 1))
        yield "value", config.value_network, value, floats(metrics), mean_curve(curves["value"])
    if "policy" in kinds:
        say("fitting the policy to what was done ...")
        learner = jax.jit(lambda key: config.policy.init(spec, key))(keys("init", 2))
        clone = jax.jit(config.policy.refit_with_curves)
        shown = replay if config.policy_share == 1.0 else buffer(data.labels_of_best(config.policy_share), replay)
        learner, metrics, curves = clone(learner, shown, keys("refit", 2))
        yield "policy", config.policy, learner.policy, floats(metrics), mean_curve(curves["policy"])


def mean_curve(curves: Any) -> list[float]:
    """Of the members [members, epochs] that had not ended yet, by epoch."""
    found = np.asarray(curves)
    going_on = np.isfinite(found)
    return [float(np.mean(found[on, i])) for i, on in enumerate(going_on.T) if on.any()]


def floats(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}
