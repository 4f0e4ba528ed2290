"""A user's termination function is used where every real transition agrees, and nowhere else (PITFALLS 6, 7)."""

import re
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PLAIN_MPC, SMALL_PETS
from ends import hopper
from probes import remember

from foreplan.agents.fitted import Learned
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting
from foreplan.core.replay import Replay
from foreplan.core.types import Spec
from foreplan.envs import names
from foreplan.run.checkpoint import flatten, unflatten
from foreplan.worlds.ensemble import EnsembleWorld, Network
from foreplan.worlds.fitting import WorldFitting, refit
from foreplan.worlds.known import Ends, check, reward_error

SPEC = Spec(obs_shape=(11,), action_dim=3)
KEY = jax.random.key(0)
TINY = Network(members=2, elites=2, layers=1, width=8, head_layers=1, head_width=8)
FITTING = WorldFitting(Fitting(batch_size=64, max_epochs=1), targets="delta")
UP = np.array([1.2, *[0.0] * 10], np.float32)  # a hopper that stands


@partial(jax.jit, static_argnums=0)
def create(name: str) -> EnsembleWorld:
    return EnsembleWorld.create(SPEC, TINY, KEY, terminated=name)


@pytest.fixture(scope="module")
def hopping() -> Replay:
    """400 real transitions of Hopper under random actions."""
    replay, rng = Replay.create(SPEC, 512), np.random.default_rng(0)
    env = names.make("gym/Hopper-v5")
    here, episode = env.reset(0), 0
    for _ in range(400):
        action = rng.uniform(-1.0, 1.0, (1, 3)).astype(np.float32)
        env.send(action)
        after = env.recv()
        row = here.obs[0], after.reward[0], after.terminated[0], after.truncated[0], after.obs[0]
        replay = remember(replay, [row], action, episode)
        here, episode = env.restart(after), episode + int(after.terminated[0] or after.truncated[0])
    env.close()
    assert int(replay.steps.terminated.sum()) > 5
    return replay


def verified(name: str, replay: Replay, ends: Ends | None = None) -> tuple[Ends, dict[str, float]]:
    ends = ends or Ends.of(name, SPEC)
    assert ends is not None
    ends, told = ends.verified(replay)
    return ends, {name: float(value) for name, value in told.items()}


def test_the_right_function_is_used_once_it_is_verified(hopping: Replay) -> None:
    ends = Ends.of("ends:hopper", SPEC)
    assert ends is not None
    assert not ends.trusted
    ends, told = verified("ends:hopper", hopping)
    assert ends.trusted
    assert told == {"known_end_error": 0.0, "known_end_used": 1.0}
    fallen = jnp.asarray(UP).at[0].set(0.5)
    for after, going_on in ((jnp.asarray(UP), 1.0), (fallen, 0.0)):
        assert float(ends.going_on(jnp.float32(0.3), jnp.asarray(UP), jnp.zeros(3), after)) == going_on


def test_another_tasks_function_is_refuted_at_once(hopping: Replay) -> None:
    with pytest.warns(UserWarning, match=r"ends:walker is wrong about \d+ of 400 real transitions") as said:
        ends, told = verified("ends:walker", hopping)
    (line,) = [str(each.message) for each in said]
    missed = int(re.findall(r"(\d+) ends missed", line)[0])
    invented = int(re.findall(r"(\d+) invented", line)[0])
    height, truth = np.asarray(hopping.steps.next_obs)[:400, 0, :2], np.asarray(hopping.steps.terminated)[:400, 0]
    over = (height[:, 0] <= 0.8) | (height[:, 0] >= 2.0) | (np.abs(height[:, 1]) >= 1.0)
    assert (missed, invented) == (int((truth & ~over).sum()), int((over & ~truth).sum()))
    assert missed > 0
    assert told == {"known_end_error": pytest.approx((missed + invented) / 400), "known_end_used": 0.0}
    assert float(ends.going_on(jnp.float32(0.3), jnp.asarray(UP), jnp.zeros(3), jnp.zeros(11))) == np.float32(0.3)


def test_the_published_slip_is_found_when_a_transition_reveals_it(hopping: Replay) -> None:
    """It is right about all that random hopping meets, and is refuted, said once, by the first joint below -100."""
    ends, told = verified("ends:hopper_misread", hopping)
    assert told["known_end_used"] == 1.0
    thrown = UP.copy()
    thrown[3] = -150.0
    later = jax.tree.map(jnp.copy, hopping)
    later = remember(later, [(UP, 0.0, True, False, thrown)], np.zeros((1, 3)), 10_000)
    assert verified("ends:hopper", later)[1]["known_end_used"] == 1.0
    with pytest.warns(UserWarning, match=r"wrong about 1 of 401 real transitions \(1 ends missed, 0 invented\)"):
        ends, told = verified("", later, ends)
    assert told["known_end_used"] == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for replay in (later, hopping):  # also where what refuted it has been overwritten
            ends, told = verified("", replay, ends)
            assert told["known_end_used"] == 0.0


def test_demonstrations_are_real_transitions_too(hopping: Replay) -> None:
    empty = Replay.create(SPEC, 8)
    assert verified("ends:walker", empty)[1]["known_end_error"] == 0.0
    with pytest.warns(UserWarning, match="of 400 real transitions"):
        verified("ends:walker", replace(empty, demos=hopping))


@pytest.mark.parametrize(("name", "used"), [("ends:hopper", 1.0), ("ends:walker", 0.0)])
def test_a_fit_asks_it_and_what_it_said_is_kept(hopping: Replay, name: str, used: float) -> None:
    """Before the first fit the network counts, which is learned in any case; then the function, if it is right. A
    checkpoint holds the verdict."""
    world = create(name)
    assert set(world.nets) == {"dynamics", "reward", "continuation"}
    assert going_on(world, jnp.zeros(11)) not in (0.0, 1.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        world, metrics = refit(world, hopping, FITTING, KEY)
        world, metrics = refit(world, hopping, FITTING, KEY)
    assert len(said) == 1 - used
    assert float(metrics["known_end_used"]) == used
    stored = unflatten(create(name), flatten(world))
    for each in (world, stored):
        assert (going_on(each, jnp.zeros(11)) == 0.0) == (used == 1.0)
        assert (going_on(each, jnp.asarray(UP)) == 1.0) == (used == 1.0)


def going_on(world: EnsembleWorld, after: Any) -> float:
    """Of the first elite, as a planner has it."""
    member = jax.tree.map(lambda leaf: leaf[0], world.members(world.elites))
    said = jax.jit(lambda member, after: member.going_on(jnp.asarray(UP), jnp.zeros(3), after))
    return float(said(member, after))


@pytest.mark.parametrize("agent", [SMALL_PETS, PLAIN_MPC], ids=["pets", "mbmpc"])
def test_planners_see_the_ends_of_a_function_that_is_verified(hopping: Replay, agent: Any) -> None:
    world = create("ends:hopper")
    world = replace(world, ends=verified("", hopping, world.ends)[0])
    model = jax.tree.map(lambda leaf: leaf[0], agent.members(Learned(world)))
    step = jax.jit(jax.vmap(lambda obs, key: model.step(obs, jnp.zeros(3), key)))
    obs = 0.7 + 0.3 * jax.random.normal(KEY, (64, 11))
    after, _, going_on = step(obs, jax.random.split(KEY, 64))
    over = jax.vmap(hopper)(obs, jnp.zeros((64, 3)), after)
    np.testing.assert_array_equal(going_on, 1.0 - np.asarray(over, np.float32))
    assert over.sum() > 0


def test_what_cannot_be_a_function_is_refused_in_one_line() -> None:
    for name, what, complaint in [
        ("ends:vector", "terminated", r"terminated ends:vector gives \(11,\) bool; accepted: one bool, of shape \(\)"),
        ("ends:number", "terminated", r"gives \(\) float32; accepted: one bool"),
        ("ends:hopper", "reward", r"reward ends:hopper gives \(\) bool; accepted: one float32"),
        ("ends:in_numpy", "terminated", "is no function of .* to JAX: TracerArrayConversionError"),
        ("ends:of_two", "terminated", "is no function of .* to JAX: TypeError"),
        ("ends:hoper", "terminated", "did you mean 'hopper'"),
        ("hopper", "terminated", "accepted: package.module:function"),
    ]:
        with pytest.raises(UsageError, match=complaint) as refused:
            check(name, what, SPEC)
        assert "\n" not in str(refused.value)


def test_a_known_reward_is_compared_with_what_was_paid(hopping: Replay) -> None:
    after, action = (np.asarray(x)[:400, 0] for x in (hopping.steps.next_obs, hopping.steps.action))
    paid = np.asarray(hopping.steps.reward)[:400, 0]
    largest = np.abs(after[:, 0] - 0.1 * np.sum(action**2, axis=1) - paid).max()
    assert float(reward_error(hopping, "ends:pays")["known_reward_error"]) == pytest.approx(largest, rel=1e-5)
    assert reward_error(hopping, "learned") == {}
