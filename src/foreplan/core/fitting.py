"""Fitting to a hold-out set: the division of the data, epochs, early stopping and the best snapshot, all on the device.

Data are divided by episode, once and for ever: by a hash of the episode's number. So no transition that is held out has
ever been trained on, however often a model is fitted and warm-started.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from foreplan.core.learning import descend, moving_average
from foreplan.core.replay import Replay, held_out
from foreplan.core.types import Step

Parts = dict[str, Any]  # parameters by part; each part has a score of its own
Scores = dict[str, Float32[Array, ""]]
Curves = dict[str, Float32[Array, "*members epochs"]]
Fitted = tuple[Parts, Parts, optax.OptState]  # the weights, their average, the optimiser

AT_ONCE = 16  # batches that are drawn together: random numbers for one alone cost a tenth of a small network's update


@dataclass(frozen=True)
class Fitting:
    """How to fit: an epoch is as many draws as there are transitions to train on."""

    lr: float = 1e-3
    batch_size: int = 256
    max_epochs: int = 100
    patience: int = 5  # epochs without a gain, after which a fit ends
    gain: float = 0.01  # share by which a score must fall to count as a gain
    hold_out: float = 0.1  # share of the episodes that is never trained on
    max_held: int = 5000  # transitions that are scored, at most
    newest: int | None = None  # fit to so many transitions, the newest; None: to all
    averaging: float = 0.0  # rate at which the weights that are scored and kept follow those that learn; 0: the same
    decay: bool = False  # lower the learning rate evenly to 0 at max_epochs

    def __post_init__(self) -> None:
        if not (self.lr > 0.0 and self.batch_size >= 1 and self.max_epochs >= 1 and self.patience >= 1):
            raise ValueError("lr must be above 0; batch_size, max_epochs and patience at least 1")
        if not (0.0 <= self.hold_out < 1.0 and 0.0 <= self.gain < 1.0 and self.max_held >= 1):
            raise ValueError("hold_out and gain are shares in [0, 1); max_held must be at least 1")
        if not 0.0 <= self.averaging <= 1.0:
            raise ValueError(f"averaging is a rate in [0, 1], not {self.averaging}")
        if self.newest is not None and self.newest < 1:
            raise ValueError(f"newest must be at least 1, not {self.newest}")


# ---------------------------------------------------------------------- the division of the data
class Split(eqx.Module):
    """Where the transitions to train on and those to score are, among `transitions(replay)`. Only the first `num_train`
    and `num_held` positions count. While no episode is held out yet, those to train on are scored."""

    train: Int32[Array, "capacity"]
    held: Int32[Array, "capacity"]
    num_train: Int32[Array, ""]
    num_held: Int32[Array, ""]
    trained: Bool[Array, "capacity"]  # the same as `train`, as a mask

    @classmethod
    def of(cls, replay: Replay, config: Fitting, counts: Bool[Array, "capacity"] | None = None) -> "Split":
        """Of all that is stored, or of those among `transitions(replay)` that `counts` marks."""
        stored = jnp.concatenate([recent(part, config.newest if part is replay else None) for part in replay.parts])
        stored = stored if counts is None else stored & counts
        held = held_out(jnp.asarray(transitions(replay).episode), config.hold_out)
        train, num_train = positions(stored & ~held)
        other, num_other = positions(stored & held)
        some = num_other > 0
        return cls(
            train=train,
            held=jnp.where(some, other, train),
            num_train=num_train,
            num_held=jnp.where(some, num_other, num_train),
            trained=stored & ~held,
        )

    def draw(self, shape: tuple[int, ...], key: PRNGKeyArray) -> Int32[Array, "..."]:
        """Positions to train on, at random, with replacement."""
        return self.train[jax.random.randint(key, shape, 0, jnp.maximum(1, self.num_train))]

    def mean(self, function: Callable[[Int32[Array, "chunk"]], Any], most: int, chunk: int = 256) -> Any:
        """The mean of `function(positions)`, leaves [chunk, ...], over the transitions that are held out; of more than
        `most`, over so many, evenly spread."""
        number = jnp.minimum(self.num_held, most)
        spacing = self.num_held.astype(jnp.float32) / jnp.maximum(1, number).astype(jnp.float32)

        def add(i: Array, total: Any) -> Any:
            order = i * chunk + jnp.arange(chunk, dtype=jnp.int32)
            counts = order < number
            values = function(self.held[(jnp.where(counts, order, 0).astype(jnp.float32) * spacing).astype(jnp.int32)])
            return jax.tree.map(lambda t, v: t + jnp.sum(jnp.where(over(counts, v), v, 0.0), axis=0), total, values)

        like = jax.eval_shape(function, jax.ShapeDtypeStruct((chunk,), jnp.int32))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), like)
        total = jax.lax.fori_loop(0, (number + chunk - 1) // chunk, add, zeros)
        return jax.tree.map(lambda t: t / jnp.maximum(1, number).astype(jnp.float32), total)


def over(mask: Bool[Array, "n"], values: Array) -> Array:
    """The mask with as many axes as the values have."""
    return mask.reshape(-1, *[1] * (values.ndim - 1))


def recent(replay: Replay, newest: int | None) -> Bool[Array, "capacity"]:
    """Which rows of the buffer, without its demonstrations, are stored; of `newest` transitions at most."""
    rows, envs = replay.steps.reward.shape
    age = (replay.head - 1 - jnp.arange(rows, dtype=jnp.int32)) % rows
    stored = age < jnp.minimum(replay.size, rows if newest is None else -(-newest // envs))
    return jnp.broadcast_to(stored[:, None], (rows, envs)).reshape(-1)


def positions(mask: Bool[Array, "capacity"]) -> tuple[Int32[Array, "capacity"], Int32[Array, ""]]:
    """(where the mask is set, padded with 0; how often it is)."""
    (found,) = jnp.nonzero(mask, size=mask.size, fill_value=0)
    return found.astype(jnp.int32), jnp.sum(mask, dtype=jnp.int32)


def transitions(replay: Replay) -> Step:
    """All rows of the buffer and of its demonstrations, leaves [capacity, ...]; which of them are real, a `Split`
    says."""
    flat = [jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), part.steps) for part in replay.parts]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *flat)


# ---------------------------------------------------------------------- fitting
class Fit(eqx.Module):
    """A fit under way. Each part keeps its own best snapshot: its score on the hold-out set, the lower the better."""

    parameters: Parts
    averaged: Parts  # what is scored and kept: see `Fitting.averaging`
    optimiser: optax.OptState
    best: Parts
    scores: Scores  # of `best`
    marks: Scores  # the scores at their last gains
    curves: Curves  # the scores before the first epoch and after every one; NaN where the fit had ended
    epochs: Int32[Array, ""]
    stale: Int32[Array, ""]  # epochs since any part has gained


def fit(
    config: Fitting,
    parameters: Parts,
    loss: Callable[[Parts, Int32[Array, "batch"]], Float32[Array, ""]],
    score: Callable[[Parts], Scores],
    split: Split,
    key: PRNGKeyArray,
) -> Fit:
    """Lower `loss(parameters, positions)` of batches of the training split, by Adam, until no part's `score` gains for
    `patience` epochs. `best` is the answer, never worse on the hold-out set than what was handed in. For ONE model: a
    `jax.lax.map` over the members of an ensemble keeps each one's weights in the cache, and gives each its own end."""
    batches = (split.num_train + config.batch_size - 1) // config.batch_size
    optimiser = optax.adam(rate(config, config.max_epochs * batches))

    def descent(at: Int32[Array, "batch"], carry: Fitted) -> Fitted:
        parameters, averaged, state = carry
        _, parameters, state = descend(lambda p: (loss(p, at), None), parameters, optimiser, state)
        return parameters, followed(config, averaged, parameters, state), state

    def epoch(now: Fit) -> Fit:
        def several(i: Array, carry: Fitted) -> Fitted:
            drawn = split.draw((AT_ONCE, config.batch_size), jax.random.fold_in(epoch_key, i))
            number = jnp.minimum(AT_ONCE, batches - i * AT_ONCE)
            return jax.lax.fori_loop(0, number, lambda j, carry: descent(drawn[j], carry), carry)

        epoch_key, start = jax.random.fold_in(key, now.epochs), (now.parameters, now.averaged, now.optimiser)
        parameters, averaged, state = jax.lax.fori_loop(0, (batches + AT_ONCE - 1) // AT_ONCE, several, start)
        return judged(now, parameters, averaged, state, score(averaged), config.gain)

    def goes_on(now: Fit) -> Bool[Array, ""]:
        return (now.epochs < config.max_epochs) & (now.stale < config.patience)

    scores, zero = score(parameters), jnp.zeros((), jnp.int32)
    curves = {part: jnp.full(config.max_epochs + 1, jnp.nan).at[0].set(score) for part, score in scores.items()}
    begin = Fit(parameters, parameters, optimiser.init(parameters), parameters, scores, scores, curves, zero, zero)
    return jax.lax.while_loop(goes_on, epoch, begin)


def rate(config: Fitting, updates: Int32[Array, ""]) -> optax.ScalarOrSchedule:
    """The learning rate, by the number of updates made of so many."""
    return (lambda made: config.lr * (1.0 - made / updates)) if config.decay else config.lr


def followed(config: Fitting, averaged: Parts, parameters: Parts, state: optax.OptState) -> Parts:
    """The averaged weights after one more update. Early on they follow faster, so that they soon forget the first."""
    if not config.averaging:
        return parameters
    made = state[0].count.astype(jnp.float32)  # type: ignore[index]  # Adam's
    return moving_average(averaged, parameters, jnp.maximum(config.averaging, 9.0 / (9.0 + made)))


def judged(now: Fit, parameters: Parts, averaged: Parts, state: optax.OptState, scores: Scores, gain: float) -> Fit:
    """The fit after one more epoch: snapshots of the parts that are better than ever. A score that is not a number is
    never better."""
    better = {part: scores[part] < now.scores[part] for part in scores}
    gained = {part: scores[part] < now.marks[part] - gain * jnp.abs(now.marks[part]) for part in scores}
    any_gained = jnp.any(jnp.stack(list(gained.values())))
    return Fit(
        parameters=parameters,
        averaged=averaged,
        optimiser=state,
        best={part: choose(better[part], averaged[part], now.best[part]) for part in averaged},
        scores={part: jnp.where(better[part], scores[part], now.scores[part]) for part in scores},
        marks={part: jnp.where(gained[part], scores[part], now.marks[part]) for part in scores},
        curves={part: now.curves[part].at[now.epochs + 1].set(scores[part]) for part in scores},
        epochs=now.epochs + 1,
        stale=jnp.where(any_gained, 0, now.stale + 1),
    )


def choose(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
