"""The replay buffer: a ring of transitions on the device. Every step enters at once; episode ends are handled here.

A sampled window never leaks across an end: its mask says which of its transitions are real. A window may begin at any
stored transition, so the steps just before an end, and episodes shorter than the window, are sampled like all others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray, Shaped

from foreplan.core import machine
from foreplan.core.errors import UsageError
from foreplan.core.types import Spec, Step

T = TypeVar("T")


class Drawn(eqx.Module):
    """From where in the buffer windows begin, how much each must count to make up for being drawn by priority, and the
    priority that it is to have from now on: 0 until somebody has learned from it."""

    row: Int32[Array, "batch"]
    env: Int32[Array, "batch"]
    weight: Float32[Array, "batch"]
    priority: Float32[Array, "batch"]

    @classmethod
    def fill(cls, batch_size: int, row: int = 0, weight: float = 0.0) -> "Drawn":
        """All alike, in the first environment."""
        fields = jnp.int32(row), jnp.int32(0), jnp.float32(weight), jnp.float32(0.0)
        return cls(*(jnp.full((batch_size,), value) for value in fields))


@dataclass(frozen=True)
class Priority:
    """Prioritised replay (Schaul et al. 2016, equations 1 and 2), by the "priority" that the buffer keeps as an extra.
    A transition whose priority is 0 was never learned from: it counts as the largest."""

    exponent: float = 0.0  # 0: windows are drawn uniformly
    correction: float = 0.4  # exponent of the weights that make up for it

    def __post_init__(self) -> None:
        for name, value in (("exponent", self.exponent), ("correction", self.correction)):
            if not value >= 0:
                raise UsageError(f"priority.{name} is {value}; accepted: numbers from 0")


UNIFORM = Priority()


class Window(eqx.Module):
    """H transitions in a row; leaves are [batch, H, ...]. Where `mask` is False a transition is of another episode."""

    obs: Float32[Array, "*batch rows obs"]  # H + 1 rows; each succeeds the one before, up to the first end
    action: Float32[Array, "*batch horizon action"]
    reward: Float32[Array, "*batch horizon"]
    terminated: Bool[Array, "*batch horizon"]
    truncated: Bool[Array, "*batch horizon"]
    mask: Bool[Array, "*batch horizon"]
    extras: dict[str, Array] = eqx.field(default_factory=dict)
    demo: Bool[Array, "*batch"] | None = None  # which are demonstrations; None where the buffer has none
    drawn: Drawn | None = None  # only where windows are drawn by priority

    def part(self, begin: int, length: int) -> "Window":
        """Of windows [batch, H, ...] the transitions from `begin` on."""
        cut = jax.tree.map(lambda leaf: leaf[:, begin : begin + length], replace(self, demo=None, drawn=None))
        return replace(cut, obs=self.obs[:, begin : begin + length + 1], demo=self.demo, drawn=self.drawn)


class Replay(eqx.Module):
    """`steps` has leaves [capacity, env, ...]; `head` is the row that the next step is written to. Demonstrations,
    which are never overwritten, stand beside in a full buffer of their own, and have their share in every batch."""

    steps: Step
    head: Int32[Array, ""]
    size: Int32[Array, ""]
    demos: "Replay | None" = None
    demo_share: float = eqx.field(static=True, default=0.0)
    hold_out: float = eqx.field(static=True, default=0.0)  # share of the episodes that no batch to train on begins in

    @classmethod
    def create(
        cls,
        spec: Spec,
        capacity: int,
        extras: Mapping[str, Array] = MappingProxyType({}),
        *,
        option: str = "--buffer",
    ) -> "Replay":
        """An empty buffer of `capacity` transitions, shared evenly by the environments of `spec`. It also keeps
        `extras`, each like the given array [env, ...]. Raises UsageError, which names the `option` that says the
        capacity, where it would fill the machine's memory."""
        rows = max(1, capacity // spec.num_envs)
        if len(spec.obs_shape) != 1:
            raise ValueError(f"the replay buffer keeps flat observations, not shape {spec.obs_shape}")

        def zeros(*shape: int, dtype: Any = jnp.float32) -> Array:
            return jnp.zeros((rows, spec.num_envs, *shape), dtype)

        def nothing() -> Step:
            return Step(
                obs=zeros(*spec.obs_shape),
                action=zeros(spec.action_dim),
                reward=zeros(),
                terminated=zeros(dtype=jnp.bool_),
                truncated=zeros(dtype=jnp.bool_),
                next_obs=zeros(*spec.obs_shape),
                episode=zeros(dtype=jnp.int32),
                extras={name: zeros(*like.shape[1:], dtype=like.dtype) for name, like in extras.items()},
            )

        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(nothing)))
        if 2 * size > machine.memory():  # it is copied at times
            raise UsageError(
                f"{option}: {capacity:,} transitions would take {size / 1e9:.1f} GB; accepted here: up to half the"
                f" machine's memory, some {capacity * machine.memory() // (2 * size):,} transitions"
            )
        return cls(nothing(), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        return self.steps.reward.shape[0]

    @property
    def parts(self) -> list["Replay"]:
        """The buffer itself, and its demonstrations if it has any."""
        return [self] if self.demos is None else [self, self.demos]


@partial(jax.jit, donate_argnums=0)
def insert(replay: Replay, step: Step) -> Replay:
    """Write one transition an environment, leaves [env, ...], over the oldest. In place: `replay` is donated."""
    steps = jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_index_in_dim(ring, new, replay.head, 0), replay.steps, step
    )
    head, size = (replay.head + 1) % replay.capacity, jnp.minimum(replay.size + 1, replay.capacity)
    return replace(replay, steps=steps, head=head, size=size)


def extend(replay: Replay, steps: Step, keep: Bool[Array, "n"]) -> Replay:
    """Write those of `n` transitions that `keep` marks, leaves [n, ...], one after another over the oldest. Only of a
    buffer of one environment that has room for `n`, and whose windows are of one transition: no two belong together."""
    rows = jnp.where(keep, (replay.head + jnp.cumsum(keep) - 1) % replay.capacity, replay.capacity)
    number = jnp.sum(keep, dtype=jnp.int32)
    return Replay(
        steps=jax.tree.map(lambda ring, new: ring.at[rows, 0].set(new, mode="drop"), replay.steps, steps),
        head=(replay.head + number) % replay.capacity,
        size=jnp.minimum(replay.size + number, replay.capacity),
    )


def sample(
    replay: Replay,
    batch_size: int,
    horizon: int,
    key: PRNGKeyArray,
    fade: float = 0.0,
    priority: Priority = UNIFORM,
) -> Window:
    """`batch_size` windows of `horizon` transitions, their beginnings uniform over all that is stored. With `fade` a
    beginning is drawn with a probability that goes as (its place from the oldest to the newest)^fade, or else by
    `priority`. Demonstrations have their share, and while nothing else is stored they have it all."""
    if replay.demos is None:
        return draw(replay, batch_size, horizon, key, fade, priority=priority)
    number = round(replay.demo_share * batch_size)
    own_key, demo_key = jax.random.split(key)
    theirs = draw(replay.demos, batch_size, horizon, demo_key)
    own = draw(replay, batch_size - number, horizon, own_key, fade, priority=priority)
    if own.drawn is not None:  # demonstrations have no priorities to be changed: a row that there is not
        theirs = replace(theirs, drawn=Drawn.fill(batch_size, replay.capacity, 1.0))
    both = jax.tree.map(
        lambda d, o: jnp.concatenate([d[:number], jnp.where(replay.size > 0, o, d[number:])]), theirs, own
    )
    return replace(both, demo=(jnp.arange(batch_size, dtype=jnp.int32) < number) | (replay.size == 0))


def draw(
    replay: Replay,
    batch_size: int,
    horizon: int,
    key: PRNGKeyArray,
    fade: float = 0.0,
    held: bool = False,
    priority: Priority = UNIFORM,
) -> Window:
    """`sample` from the buffer itself, without its demonstrations; with `held`, from the episodes held out."""
    weight = None
    if priority.exponent > 0:
        begin, env, weight = by_priority(replay, batch_size, key, priority)
    else:
        begin, env = beginnings(replay, batch_size, key, fade, held)
    order = begin[:, None] + jnp.arange(horizon, dtype=jnp.int32)[None, :]
    rows = (replay.head - replay.size + order) % replay.capacity
    steps = jax.tree.map(lambda ring: ring[rows, env[:, None]], replay.steps)
    ended = (steps.terminated | steps.truncated).astype(jnp.int32)
    before = jnp.cumsum(ended, axis=1) - ended  # ends before this transition, within the window
    return Window(
        obs=jnp.concatenate([steps.obs[:, :1], steps.next_obs], axis=1),
        action=steps.action,
        reward=steps.reward,
        terminated=steps.terminated,
        truncated=steps.truncated,
        mask=(before == 0) & (order < replay.size),
        extras=steps.extras,
        drawn=None if weight is None else Drawn(rows[:, 0], env, weight, jnp.zeros_like(weight)),
    )


def by_priority(
    replay: Replay, number: int, key: PRNGKeyArray, priority: Priority
) -> tuple[Int32[Array, "number"], Int32[Array, "number"], Float32[Array, "number"]]:
    """(place from the oldest, environment, weight) of transitions drawn by priority; none of those held out."""
    known, episode = replay.steps.extras["priority"], jnp.asarray(replay.steps.episode)
    there = jnp.arange(replay.capacity, dtype=jnp.int32)[:, None] < replay.size
    there = there & ~held_out(episode, replay.hold_out)
    largest = jnp.max(jnp.where(there, known, 0.0))
    known = jnp.where(known > 0.0, known, jnp.where(largest > 0.0, largest, 1.0))
    mass = jnp.where(there, known**priority.exponent, 0.0).reshape(-1)
    below = jnp.cumsum(mass)
    index = jnp.searchsorted(below, below[-1] * jax.random.uniform(key, (number,)), side="right")
    index = jnp.minimum(index, mass.size - 1).astype(jnp.int32)
    share = jnp.maximum(mass[index], 1e-30) / below[-1]
    weight = (share * jnp.sum(there, dtype=jnp.float32)) ** -priority.correction
    row, env = jnp.divmod(index, known.shape[1])
    return (row - replay.head + replay.size) % replay.capacity, env, weight / jnp.max(weight)


def rewritten(
    replay: Replay, row: Int32[Array, "n"], env: Int32[Array, "n"], extras: Mapping[str, Shaped[Array, "n ..."]]
) -> Replay:
    """The buffer with these extras of some transitions; one in a row beyond the last is dropped."""
    known = dict(replay.steps.extras)
    new = {name: jnp.asarray(known[name]).at[row, env].set(value, mode="drop") for name, value in extras.items()}
    return replace(replay, steps=replace(replay.steps, extras=known | new))


def beginnings(
    replay: Replay, number: int, key: PRNGKeyArray, fade: float = 0.0, held: bool = False
) -> tuple[Int32[Array, "number"], Int32[Array, "number"]]:
    """(place from the oldest, environment) of transitions at random. Each is the first of some tries that is held out
    or not, as is asked for; where all tries fail, one of the other kind."""
    age_key, env_key = jax.random.split(key)
    shape = (1 if replay.hold_out == 0 else 64 if held else 8, number)
    if fade == 0:
        begin = jax.random.randint(age_key, shape, 0, replay.size)
    else:
        place = jax.random.uniform(age_key, shape) ** (1.0 / (1.0 + fade))
        begin = jnp.minimum((place * replay.size.astype(jnp.float32)).astype(jnp.int32), replay.size - 1)
    env = jax.random.randint(env_key, shape, 0, replay.steps.reward.shape[1])
    if replay.hold_out == 0:
        return begin[0], env[0]
    episode = jnp.asarray(replay.steps.episode)[(replay.head - replay.size + begin) % replay.capacity, env]
    first = jnp.argmax(held_out(episode, replay.hold_out) == held, axis=0)
    each = jnp.arange(number, dtype=jnp.int32)
    return begin[first, each], env[first, each]


def held_out(episode: Int32[Array, "*n"], share: float) -> Bool[Array, "*n"]:
    """Whether the episodes of these numbers are held out. Multiplying by the golden ratio spreads them evenly (Knuth,
    volume 3, section 6.4): among any that follow each other, nearly the share that is asked for."""
    hashed = (episode + 1).astype(jnp.uint32) * jnp.uint32(2654435769)
    return hashed < jnp.uint32(int(share * 2**32))


def fold(
    function: Callable[[T, Step], T], state: T, replay: Replay, seen: Int32[Array, ""]
) -> tuple[T, Int32[Array, ""]]:
    """Hand what was stored since the first `seen` rows, in order, to `function(state, step) -> state`, where the leaves
    of `step` are [env, ...]. Returns (state, seen). A buffer that has begun to overwrite its oldest adds nothing."""

    def row(carry: tuple[T, Int32[Array, ""]]) -> tuple[T, Int32[Array, ""]]:
        state, seen = carry
        index = (replay.head - replay.size + seen) % replay.capacity
        return function(state, jax.tree.map(lambda ring: ring[index], replay.steps)), seen + 1

    return jax.lax.while_loop(lambda carry: carry[1] < replay.size, row, (state, seen))
