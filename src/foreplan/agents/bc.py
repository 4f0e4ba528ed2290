"""Behavioural cloning (Pomerleau 1989, "ALVINN"; Ross et al. 2011, section 2.1): to do what an expert would do is
learned from examples, as any other function.

 1. take the states that an expert has labelled, demonstrations or those that DAgger asked for   `transitions`
 2. hold some of their episodes out, if asked, once and for ever                               `core.fitting.Split`
 3. normalise observations by the training split alone                                         `BC.refit`
 4. fit the policy, at a rate that comes down to nothing, and keep the average of its weights;
    or, if asked, until it does not gain on the hold-out set                                   `core.fitting.fit`
      continuous: squared error, or the likelihood of a squashed Gaussian                      `BC.loss`
      discrete: cross-entropy, classes weighted alike if asked for
 5. act by the policy's mode; exploring, by a sample                                           `BC.act`

With more than one member each is fitted by itself, and the policy is their mean; where they disagree, data are missing.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.errors import UsageError
from foreplan.core.fitting import Curves, Fitting, Parts, Scores, Split, fit, transitions
from foreplan.core.learning import descend, masked_mean, repeat_updates
from foreplan.core.replay import Replay, Window
from foreplan.core.types import LearnedParts, Metrics, Spec, TimeStep
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.nets import Ensemble
from foreplan.nn.network import ReluMLP

LABELS = ("label", "labelled")  # among the extras of the buffer: see `data.dataset`

# To the end, and to all that was said: a small error is what grows while one acts (Block et al. 2023, "Butterfly
# Effects of SGD Noise").
WHOLE = Fitting(max_epochs=200, patience=200, hold_out=0.0, max_held=1000, averaging=0.001, decay=True)


class Policy(eqx.Module):
    """Networks from normalised observations to the parameters of a distribution over actions."""

    members: Ensemble
    mean: Float32[Array, "obs"]
    std: Float32[Array, "obs"]
    kind: str = eqx.field(static=True)  # "discrete", "mse" or "likelihood"
    noise: float = eqx.field(static=True)  # of "mse", while exploring

    def __call__(self, obs: Float32[Array, "obs"]) -> Float32[Array, "members out"]:
        return self.members((obs - self.mean) / self.std)

    def modes(self, obs: Float32[Array, "obs"]) -> Float32[Array, "members action"]:
        """What each member would do; of discrete actions the probabilities."""
        return jax.vmap(self.mode)(self(obs))

    def mode(self, outputs: Float32[Array, "out"]) -> Float32[Array, "action"]:
        if self.kind == "discrete":
            return jax.nn.softmax(outputs)
        return gaussian(outputs).mode() if self.kind == "likelihood" else jnp.tanh(outputs)

    def act(self, obs: Float32[Array, "obs"], key: PRNGKeyArray, explore: bool) -> Float32[Array, "action"]:
        """The mode of all members together; exploring, a sample, by one member that is drawn."""
        if not explore:
            return self.decided(jnp.mean(self.modes(obs), axis=0))
        member_key, key = jax.random.split(key)
        outputs = self(obs)[jax.random.randint(member_key, (), 0, self.members.heads)]
        if self.kind == "discrete":
            return jax.nn.one_hot(jax.random.categorical(key, outputs), outputs.shape[0])
        if self.kind == "likelihood":
            return gaussian(outputs).sample(key)[0]
        action = jnp.tanh(outputs)
        return jnp.clip(action + self.noise * jax.random.normal(key, action.shape, jnp.float32), -1.0, 1.0)

    def decided(self, action: Float32[Array, "action"]) -> Float32[Array, "action"]:
        """An action that can be executed: of discrete ones the most probable."""
        return jax.nn.one_hot(jnp.argmax(action), action.shape[0]) if self.kind == "discrete" else action

    def disagreement(self, obs: Float32[Array, "obs"]) -> Float32[Array, ""]:
        """The standard deviation of what the members would do, in the mean over the action's dimensions."""
        return jnp.mean(jnp.std(self.modes(obs), axis=0))


class Learner(eqx.Module):
    policy: Policy
    optimiser: optax.OptState  # of the updates between fits
    fits: Int32[Array, ""]


@dataclass(frozen=True)
class BC:
    action_kinds: ClassVar[tuple[str, ...]] = ("continuous", "discrete")
    offline: ClassVar[bool] = True  # there is nothing to gain from acting

    loss: Literal["mse", "likelihood"] = "mse"  # of continuous actions
    widths: tuple[int, ...] = (256, 256)
    members: int = 1
    balance: bool = False  # weigh discrete actions by how rare they are
    noise: float = 0.1  # standard deviation of what is added to "mse" actions while exploring
    anew: bool = False  # each fit begins with fresh weights, not with those of the last
    fitting: Fitting = WHOLE
    utd: float = 0.0  # gradient updates a decision, besides the fits

    def __post_init__(self) -> None:
        if self.members < 1 or not self.widths or min(self.widths) < 1 or not self.noise >= 0.0:
            raise UsageError("members and widths must be at least 1, noise at least 0")

    # ------------------------------------------------------------------ what is learned
    def init(self, spec: Spec, key: PRNGKeyArray) -> Learner:
        (obs_dim,) = spec.obs_shape
        kind = "discrete" if spec.discrete else self.loss
        outputs = spec.action_dim * (2 if kind == "likelihood" else 1)
        members = self.networks(obs_dim, outputs, key)
        return Learner(
            policy=Policy(members, jnp.zeros(obs_dim), jnp.ones(obs_dim), kind, self.noise),
            optimiser=optax.adam(self.fitting.lr).init(members),
            fits=jnp.zeros((), jnp.int32),
        )

    def networks(self, obs_dim: int, outputs: int, key: PRNGKeyArray) -> Ensemble:
        return Ensemble(lambda k: ReluMLP(obs_dim, self.widths, outputs, k), self.members, key)

    def memory(self, spec: Spec) -> tuple[()]:
        return ()

    def seed_steps(self, spec: Spec) -> int:
        return 0

    def extras(self, spec: Spec) -> dict[str, Array]:
        return {"label": jnp.zeros((spec.num_envs, spec.action_dim)), "labelled": jnp.zeros(spec.num_envs, jnp.bool_)}

    def parts(self, learner: Learner) -> LearnedParts:
        return {"policy": (self, learner.policy)}

    # ------------------------------------------------------------------ 5. act
    @partial(jax.jit, static_argnames=("self", "explore"))
    def act(
        self, learner: Learner, timestep: TimeStep, memory: tuple[()], key: PRNGKeyArray, explore: bool
    ) -> tuple[Float32[Array, "env action"], tuple[()], Metrics]:
        """Nobody labels what is done here."""
        obs = jnp.asarray(timestep.obs)
        actions = jax.vmap(lambda o, k: learner.policy.act(o, k, explore))(obs, jax.random.split(key, obs.shape[0]))
        return actions, memory, {"label": jnp.zeros_like(actions), "labelled": jnp.zeros(obs.shape[0], jnp.bool_)}

    def doubt(self, learner: Learner, obs: Float32[Array, "n obs"]) -> Float32[Array, "n"] | None:
        """How much the members disagree; None where there is one alone."""
        return jax.vmap(learner.policy.disagreement)(obs) if self.members > 1 else None

    # ------------------------------------------------------------------ 1. to 4. learn
    def refit_every(self, spec: Spec) -> int:
        return 2**30  # once

    @partial(jax.jit, static_argnames="self")
    def refit(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """Fit every member again, from where it stands or `anew`. Without any label nothing changes."""
        return self.refit_with_curves(learner, replay, key)[:2]

    def refit_with_curves(self, learner: Learner, replay: Replay, key: PRNGKeyArray) -> tuple[Learner, Metrics, Curves]:
        """`refit`, and each member's loss on the hold-out set, [members, epochs] (see `core.fitting.Fit`)."""
        data = transitions(replay)
        labelled = data.extras["labelled"]
        split = Split.of(replay, self.fitting, labelled)
        mean, std = moments(data.obs, split.trained)
        policy = eqx.tree_at(lambda p: (p.mean, p.std), learner.policy, (mean, std))
        if self.anew:
            outputs = policy.members.members.last.bias.shape[-1]
            fresh = self.networks(mean.shape[0], outputs, jax.random.fold_in(key, self.members))
            policy = eqx.tree_at(lambda p: p.members, policy, fresh)
        weights = self.weights(data.extras["label"], split.trained)

        def rows(parts: Parts, at: Int32[Array, "n"]) -> tuple[Array, Array]:
            obs, label = (leaf[at] for leaf in (data.obs, data.extras["label"]))
            outputs = jax.vmap(parts["policy"])((obs - mean[None]) / std[None])
            return jax.vmap(partial(self.loss_of, policy, weights))(outputs, label)

        def loss(parts: Parts, at: Int32[Array, "n"]) -> Float32[Array, ""]:
            return jnp.mean(rows(parts, at)[0])

        def score(parts: Parts) -> Scores:
            return {"policy": split.mean(partial(rows, parts), self.fitting.max_held)[0]}

        def one(member: tuple[ReluMLP, PRNGKeyArray]) -> tuple[ReluMLP, Metrics, Curves]:
            found = fit(self.fitting, {"policy": member[0]}, loss, score, split, member[1])
            _, agreement = split.mean(partial(rows, found.best), self.fitting.max_held)
            told = {"held_out_loss": found.scores["policy"], "agreement": agreement, "epochs": found.epochs}
            return found.best["policy"], jax.tree.map(lambda leaf: leaf.astype(jnp.float32), told), found.curves

        members, told, curves = jax.lax.map(one, (policy.members.members, jax.random.split(key, self.members)))
        fitted = eqx.tree_at(lambda p: p.members.members, policy, members)
        any_label = split.num_train > 0
        policy = jax.tree.map(lambda new, old: jnp.where(any_label, new, old), fitted, learner.policy)
        metrics = jax.tree.map(jnp.mean, told) | {"labels": jnp.sum(labelled).astype(jnp.float32)}
        return Learner(policy, learner.optimiser, learner.fits + any_label.astype(jnp.int32)), metrics, curves

    def weights(self, label: Float32[Array, "n action"], trained: Bool[Array, "n"]) -> Float32[Array, "action"]:
        """How much an example of each class counts; all 1 unless classes are to be balanced."""
        shares = jnp.sum(jnp.where(trained[:, None], label, 0.0), axis=0)
        shares = shares / jnp.maximum(1.0, jnp.sum(shares))
        balanced = 1.0 / jnp.maximum(shares * label.shape[1], 0.01)
        return balanced if self.balance else jnp.ones_like(shares)

    def loss_of(
        self, policy: Policy, weights: Float32[Array, "action"], outputs: Float32[Array, "out"], label: Array
    ) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
        """(loss, agreement) of one example: whether the same action is chosen, or 1 - the mean distance of actions."""
        if policy.kind == "discrete":
            right = (jnp.argmax(outputs) == jnp.argmax(label)).astype(jnp.float32)
            return -(weights @ label) * (jax.nn.log_softmax(outputs) @ label), right
        action = policy.mode(outputs)
        agreement = 1.0 - jnp.mean(jnp.abs(action - label))
        if policy.kind == "likelihood":
            return -gaussian(outputs).log_prob(label), agreement
        return jnp.mean((action - label) ** 2), agreement

    @partial(jax.jit, static_argnames=("self", "num_updates"), donate_argnames="learner")
    def learn(self, learner: Learner, replay: Replay, key: PRNGKeyArray, num_updates: int) -> tuple[Learner, Metrics]:
        """Gradient steps on whatever is labelled, between fits."""
        return repeat_updates(
            self.update, learner, replay, key, num_updates=num_updates, batch_size=self.fitting.batch_size, horizon=1
        )

    def update(self, learner: Learner, window: Window, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        del key
        obs, policy = window.obs[:, 0], learner.policy
        label, counts = (window.extras[name][:, 0] for name in LABELS)
        weights = self.weights(label, counts)

        def loss(members: Ensemble) -> tuple[Float32[Array, ""], Metrics]:
            one = eqx.tree_at(lambda p: p.members, policy, members)
            each = jax.vmap(partial(self.loss_of, policy, weights), (0, None))
            losses, agreements = jax.vmap(lambda o, a: each(one(o), a))(obs, label)
            value = masked_mean(jnp.mean(losses, axis=1), counts)
            return value, {"policy_loss": value, "agreement": masked_mean(jnp.mean(agreements, axis=1), counts)}

        metrics, members, optimiser = descend(loss, policy.members, optax.adam(self.fitting.lr), learner.optimiser)
        policy = eqx.tree_at(lambda p: p.members, policy, members)
        return Learner(policy, optimiser, learner.fits), metrics


def gaussian(outputs: Float32[Array, "twice_action"]) -> SquashedGaussian:
    """Wide enough to begin with that examples far from the first guess do not drown all others."""
    return SquashedGaussian.of(outputs, low=-5.0, high=2.0)


def moments(
    obs: Float32[Array | np.ndarray, "n obs"], counts: Bool[Array, "n"], least: float = 1e-2
) -> tuple[Float32[Array, "obs"], Float32[Array, "obs"]]:
    """Mean and standard deviation (at least `least`) over the rows that count."""
    number = jnp.maximum(1, jnp.sum(counts)).astype(jnp.float32)
    mean = jnp.sum(jnp.where(counts[:, None], obs, 0.0), axis=0) / number
    variance = jnp.sum(jnp.where(counts[:, None], (obs - mean[None]) ** 2, 0.0), axis=0) / number
    return mean, jnp.maximum(jnp.sqrt(variance), least)


SIZES: dict[str, BC] = {"small": BC(), "large": BC(widths=(512, 512, 512))}
