"""How an `EnsembleWorld` is fitted to a replay buffer: least squares, or maximum likelihood with learned bounds of the
variance; reward and continuation by losses of their own (Chua et al. 2018; Janner et al. 2019, appendix C).

 1. divide the transitions by episode, once and for ever         `core.fitting.Split`
 2. units of inputs and targets, from the training split alone    `scaled`
 3. each member by itself, until nothing gains on the hold-out    `core.fitting.fit`
      a. likelihood of the next observation, or squared error     `dynamics_loss`
      b. squared error of the reward                              `reward_loss`
      c. class-balanced cross-entropy of the continuation         `continuation_loss`
 4. rank the members by their own best scores                     `EnsembleWorld.elites`
 5. ask a user's termination function about all that is stored    `worlds.known.Ends`

The first time, both kinds of target are fitted (the change of an observation, and the next one), and the one that
foretells the hold-out set better is kept.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.fitting import Curves, Fitting, Parts, Scores, Split, fit, transitions
from foreplan.core.maths import softplus
from foreplan.core.replay import Replay
from foreplan.core.types import Metrics, Step
from foreplan.worlds.ensemble import EnsembleWorld, Gaussian, Member, Scaling
from foreplan.worlds.units import rebased

Scalar = Float32[Array, ""]
NETWORKS = ("dynamics", "reward", "continuation")


@dataclass(frozen=True)
class WorldFitting:
    fitting: Fitting = field(default_factory=Fitting)
    decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # weight decay, from the first layer to the last
    bounds: float = 0.01  # weight of (high - low), which keeps the bounds of the variance together
    beta: float = 0.0  # 0: likelihood; 1: errors count as in least squares, however much is foretold of their variance
    targets: Literal["auto", "delta", "next"] = "auto"
    min_std: float = 1e-3  # no unit is smaller
    kept: tuple[str, ...] = ()  # networks that were fitted beforehand: new units leave what they say as it was
    frozen: tuple[str, ...] = ()  # networks that are never fitted further

    def __post_init__(self) -> None:
        for name in (*self.kept, *self.frozen):
            if name not in NETWORKS:
                raise ValueError(f"{name!r} is no network of a world; accepted: {', '.join(map(repr, NETWORKS))}")
        if self.targets not in ("auto", "delta", "next"):
            raise ValueError(f"targets is {self.targets!r}; accepted: 'auto', 'delta', 'next'")
        if not (self.min_std > 0.0 and self.bounds >= 0.0 and len(self.decay) >= 1 and min(self.decay) >= 0.0):
            raise ValueError("min_std must be above 0, bounds and every decay at least 0")
        if not 0.0 <= self.beta <= 1.0:
            raise ValueError(f"beta is {self.beta}; accepted: numbers from 0 to 1")


def refit(
    world: EnsembleWorld, replay: Replay, config: WorldFitting, key: PRNGKeyArray
) -> tuple[EnsembleWorld, Metrics]:
    """The world, fitted further to all that is stored. Called from Python: the first time it decides what kind of
    target to keep.

    Metrics, on the hold-out set, are means over the elites: `dynamics_error` and `reward_error` in shares of the
    targets' variance, `continuation_error` in nats, and `log_error`, the logarithm to base 10 of the squared error as a
    share of the observation's variance, averaged over its dimensions; and those of `Ends.verified`.
    """
    world, metrics, _ = refit_with_curves(world, replay, config, key)
    if world.ends is None:
        return world, metrics
    ends, told = world.ends.verified(replay)
    return replace(world, ends=ends), metrics | told


def refit_with_curves(
    world: EnsembleWorld, replay: Replay, config: WorldFitting, key: PRNGKeyArray
) -> tuple[EnsembleWorld, Metrics, Curves]:
    """`refit`, and how each member has fared on the hold-out set: curves [members, epochs] (see `core.fitting.Fit`)."""
    learned = world.nets.keys() - set(config.frozen)
    if not learned:
        return world, {}, {}
    if "dynamics" not in learned or (config.targets == "auto" and int(jax.device_get(world.fits)) > 0):
        return fit_world(world, replay, config, key)
    kinds = {"auto": (1.0, 0.0), "delta": (1.0,), "next": (0.0,)}[config.targets]
    found = [fit_world(aimed(world, kind), replay, config, key) for kind in kinds]
    return min(found, key=lambda one: float(jax.device_get(one[1]["log_error"])))


def aimed(world: EnsembleWorld, residual: float) -> EnsembleWorld:
    """The world, to foretell the change of the observation (1) or the next one (0)."""
    return eqx.tree_at(lambda w: w.scaling.residual, world, jnp.full_like(world.scaling.residual, residual))


@partial(jax.jit, static_argnames="config")
def fit_world(
    world: EnsembleWorld, replay: Replay, config: WorldFitting, key: PRNGKeyArray
) -> tuple[EnsembleWorld, Metrics, Curves]:
    """One fit of all members, as one program."""
    data, split, fitting = transitions(replay), Split.of(replay, config.fitting), config.fitting
    scaling, weights = scaled(world.scaling, data, split, config.min_std), class_weights(data, split)
    scaling = eqx.tree_at(lambda s: s.odds, scaling, jnp.log(weights[1] / weights[0]))
    same = rebased(world, scaling).nets if config.kept or config.frozen else {}
    held = {name: same[name] for name in world.nets if name in config.frozen}
    free = {name: same[name] if name in config.kept else net for name, net in world.nets.items() if name not in held}

    def rows(nets: Parts, at: Int32[Array, "n"]) -> dict[str, Array]:
        of_one = partial(losses, Member(nets, scaling), weights, beta=config.beta)
        return jax.vmap(of_one)(jax.tree.map(lambda leaf: leaf[at], data))

    def loss(nets: Parts, at: Int32[Array, "n"]) -> Scalar:
        found = rows(nets, at)
        data_loss = sum((jnp.mean(found[name]) for name in nets), start=jnp.zeros(()))
        apart = spread(nets["dynamics"]) if "dynamics" in nets else jnp.zeros(())
        return data_loss + config.bounds * apart + decayed(nets, config.decay)

    def score(nets: Parts) -> Scores:
        found = split.mean(partial(rows, nets), fitting.max_held)
        return {name: jnp.mean(found["errors"]) if name == "dynamics" else found[name] for name in nets}

    keys = jax.random.split(key, world.num_members)
    found = jax.lax.map(lambda one: fit(fitting, one[0], loss, score, split, one[1]), (free, keys))
    elites = world.elites
    if "dynamics" not in held:
        ranked = found.scores["dynamics" if "dynamics" in free else next(iter(free))]
        elites = jnp.argsort(ranked)[: len(elites)].astype(jnp.int32)
    metrics = {f"{name}_error": jnp.mean(score[elites]) for name, score in found.scores.items()}
    if "dynamics" in free:
        best = jax.tree.map(lambda leaf: leaf[elites], found.best)
        errors = jax.lax.map(lambda nets: split.mean(partial(rows, nets), fitting.max_held)["errors"], best)
        units = scaling.target_std / scaling.input_std[: len(scaling.target_std)]
        metrics["log_error"] = jnp.mean(jnp.log10(jnp.maximum(errors * units[None] ** 2, 1e-12)))
    metrics |= {
        "epochs": jnp.mean(found.epochs.astype(jnp.float32)),
        "train_transitions": split.num_train.astype(jnp.float32),
    }
    world = replace(world, nets=found.best | held, scaling=scaling, elites=elites, fits=world.fits + 1)
    return world, metrics, found.curves


def scaled(scaling: Scaling, data: Step, split: Split, min_std: float) -> Scaling:
    """The units of the training split. Those of the targets may be smaller, relative to the observation's own."""
    seen, obs = split.trained, jnp.asarray(data.obs)
    inputs = moments(jnp.concatenate([obs, jnp.asarray(data.action)], axis=1), seen, jnp.float32(min_std))
    target = jnp.asarray(data.next_obs) - scaling.residual[None] * obs
    target_mean, target_std = moments(target, seen, min_std * inputs[1][: target.shape[1]])
    reward_mean, reward_std = moments(jnp.asarray(data.reward)[:, None], seen, jnp.float32(min_std))
    return Scaling(*inputs, target_mean, target_std, scaling.residual, reward_mean[0], reward_std[0], scaling.odds)


def moments(x: Float32[Array, "n d"], mask: Bool[Array, "n"], least: Array) -> tuple[Array, Array]:
    """(mean [d], standard deviation [d], at least `least`) over the rows that the mask keeps."""
    number = jnp.maximum(1, jnp.sum(mask)).astype(jnp.float32)
    mean = jnp.sum(jnp.where(mask[:, None], x, 0.0), axis=0) / number
    variance = jnp.sum(jnp.where(mask[:, None], (x - mean[None]) ** 2, 0.0), axis=0) / number
    return mean, jnp.maximum(jnp.sqrt(variance), least)


def class_weights(data: Step, split: Split, rarest: float = 0.01) -> Float32[Array, "2"]:
    """(of a transition that goes on, of one that terminates), so that both kinds count alike. A kind that is rarer than
    `rarest` counts less."""
    number = jnp.maximum(1, split.num_train).astype(jnp.float32)
    ends = jnp.sum(split.trained & data.terminated).astype(jnp.float32) / number
    return 0.5 / jnp.maximum(jnp.stack([1.0 - ends, ends]), rarest)


# ---------------------------------------------------------------------- losses, of one transition
def losses(member: Member, weights: Float32[Array, "2"], step: Step, beta: float = 0.0) -> dict[str, Array]:
    """The loss of each network, and the squared error of each dimension in the targets' units. `beta` is that of
    Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks",
    equation 3: without it, what is hard to foretell is taken for noise and never learned."""
    obs, action, after = jnp.asarray(step.obs), jnp.asarray(step.action), jnp.asarray(step.next_obs)
    found: dict[str, Array] = {}
    if "dynamics" in member.nets:
        mean, log_variance = member.nets["dynamics"](member.inputs(obs, action))
        errors = (member.target(obs, after) - mean) ** 2
        unlikely = errors * jnp.exp(-log_variance) + log_variance
        if beta:
            unlikely = unlikely * jax.lax.stop_gradient(jnp.exp(beta * log_variance))
        found |= {"dynamics": jnp.mean(unlikely), "errors": errors}
    if "reward" in member.nets:
        reward = member.reward(obs, action, after)
        found["reward"] = ((jnp.asarray(step.reward) - reward) / member.scaling.reward_std) ** 2
    if "continuation" in member.nets:
        logit = member.continue_logit(obs, action, after) - member.scaling.odds
        wrong = softplus(jnp.where(step.terminated, logit, -logit))
        found["continuation"] = wrong * jnp.where(step.terminated, weights[1], weights[0])
    return found


def spread(dynamics: Gaussian) -> Scalar:
    """How far apart the bounds of the log variance are."""
    return jnp.zeros(()) if dynamics.bounds is None else jnp.sum(dynamics.bounds[1] - dynamics.bounds[0])


def decayed(nets: Parts, decay: tuple[float, ...]) -> Scalar:
    """Half the squared weights of each layer, times its decay; a net of other depth takes the same rise."""
    total = jnp.zeros(())
    for net in nets.values():
        layers = (net.net if isinstance(net, Gaussian) else net).layers
        rates = np.interp(np.linspace(0, 1, len(layers)), np.linspace(0, 1, len(decay)), decay)
        for rate, layer in zip(rates, layers, strict=True):
            total = total + 0.5 * float(rate) * jnp.sum(layer.weight**2)
    return total
