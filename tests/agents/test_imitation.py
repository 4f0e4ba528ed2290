"""BC and DAgger: what they fit, whom they ask and when."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CLONE, timestep
from probes import remember

from foreplan.agents.bc import BC
from foreplan.agents.dagger import Beta, DAgger
from foreplan.agents.experts import CallableExpert, Labels
from foreplan.agents.queries import DISCOUNT, Query
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting, held_out
from foreplan.core.replay import Replay
from foreplan.core.targets import returns_to_go
from foreplan.core.types import Spec
from foreplan.nn.dists import SquashedGaussian

SPEC = Spec(obs_shape=(3,), action_dim=2)
DISCRETE = replace(SPEC, action_dim=3, discrete=True)


def examples(spec: Spec, law: Any, number: int = 600, every: int = 20, seed: int = 0) -> Replay:
    """A full buffer of states drawn at random, labelled by `law(obs) -> action`, in episodes of `every` steps."""
    obs = np.random.default_rng(seed).normal(size=(number, 1, 3)).astype(np.float32)
    label = np.stack([np.float32(law(row[0])) for row in obs])[:, None]
    empty = Replay.create(spec, number, CLONE.extras(spec))
    extras = {"label": jnp.asarray(label), "labelled": jnp.ones((number, 1), jnp.bool_)}
    episode = jnp.arange(number, dtype=jnp.int32)[:, None] // every
    steps = replace(empty.steps, obs=jnp.asarray(obs), episode=episode, extras=extras)
    return replace(empty, steps=steps, size=jnp.int32(number))


def straight(obs: np.ndarray) -> np.ndarray:
    return np.tanh(0.5 * obs[:2] - obs[1:])


def numbered(obs: np.ndarray) -> np.ndarray:
    """The largest of three, the last of which hardly ever is."""
    return np.eye(3)[np.argmax(obs - np.array([0.0, 0.0, 2.5]))]


# ---------------------------------------------------------------------- BC
@pytest.mark.parametrize("loss", ["mse", "likelihood"])
def test_continuous_actions_are_cloned(loss: Any) -> None:
    fitting = Fitting(lr=3e-3, batch_size=64, max_epochs=200, patience=20)
    agent = replace(CLONE, loss=loss, members=1, fitting=fitting)
    learner, told = agent.refit(agent.init(SPEC, jax.random.key(0)), examples(SPEC, straight), jax.random.key(1))
    obs = np.random.default_rng(9).normal(size=(50, 3)).astype(np.float32)
    actions, _, _ = agent.act(learner, timestep(obs), (), jax.random.key(2), False)
    assert np.mean(np.abs(actions - np.stack([straight(o) for o in obs]))) < 0.1
    assert told["agreement"] > 0.9
    assert told["labels"] == 600


def test_balance_hears_the_rare_class() -> None:
    """A sixtieth of all examples is of the last class: weighed alike, it is chosen more often."""
    replay = examples(DISCRETE, numbered)
    rare = np.random.default_rng(5).normal(size=(300, 3)).astype(np.float32) + np.float32([0.0, 0.0, 2.0])

    def recall(agent: BC) -> float:
        learner, _ = agent.refit(agent.init(DISCRETE, jax.random.key(0)), replay, jax.random.key(1))
        actions, _, _ = agent.act(learner, timestep(rare), (), jax.random.key(2), False)
        np.testing.assert_array_equal(np.sort(actions, axis=1)[:, 1:], [[0, 1]] * 300)  # one-hot
        truth = np.array([numbered(o)[2] for o in rare]) == 1
        return float(np.mean(np.asarray(actions)[truth, 2]))

    short = replace(CLONE, members=1, fitting=Fitting(max_epochs=15, batch_size=64))
    plain, balanced = recall(short), recall(replace(short, balance=True))
    assert balanced > plain + 0.05


def test_what_is_held_out_is_never_looked_at() -> None:
    """Neither by the normaliser (PITFALLS 25) nor by the fit: but its loss is what ends the fit."""
    replay = examples(SPEC, straight)
    held = np.asarray(held_out(jnp.asarray(replay.steps.episode), CLONE.fitting.hold_out))
    assert 0.05 < held.mean() < 0.2
    strange = replace(replay, steps=replace(replay.steps, obs=jnp.where(held[..., None], 1e3, replay.steps.obs)))
    learner, told = CLONE.refit(CLONE.init(SPEC, jax.random.key(0)), strange, jax.random.key(1))
    assert np.abs(learner.policy.mean).max() < 1.0
    assert np.abs(learner.policy.std - 1.0).max() < 0.2
    assert told["held_out_loss"] > 0.1


def test_without_labels_nothing_is_learned() -> None:
    learner = CLONE.init(SPEC, jax.random.key(0))
    after, told = CLONE.refit(learner, Replay.create(SPEC, 30, CLONE.extras(SPEC)), jax.random.key(1))
    assert told["labels"] == 0
    assert after.fits == 0
    for a, b in zip(jax.tree.leaves(learner), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("anew", [True, False])
def test_a_fit_that_begins_anew_does_not_depend_on_what_was_there(anew: bool) -> None:
    agent = replace(CLONE, members=1, anew=anew, fitting=Fitting(batch_size=64, max_epochs=2))
    replay = examples(SPEC, straight)
    one, other = (agent.refit(agent.init(SPEC, jax.random.key(i)), replay, jax.random.key(9))[0] for i in range(2))
    pairs = zip(jax.tree.leaves(one.policy), jax.tree.leaves(other.policy), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs) == anew


def test_the_likelihood_is_a_density() -> None:
    """Over [-1, 1] it sums to one."""
    dist = SquashedGaussian(jnp.array([0.4]), jnp.array([-0.3]))
    grid = jnp.linspace(-0.999, 0.999, 4001)
    density = jnp.exp(jax.vmap(lambda a: dist.log_prob(a[None]))(grid))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-2)
    action, log_prob = dist.sample(jax.random.key(0))
    assert dist.log_prob(action) == pytest.approx(float(log_prob), abs=1e-3)


# ---------------------------------------------------------------------- DAgger
@pytest.mark.parametrize(
    ("beta", "values"),
    [
        (Beta(), [1.0, 0.0, 0.0, 0.0]),
        (Beta("exponential", 0.5), [1.0, 0.5, 0.25, 0.125]),
        (Beta("linear", 0.4), [1.0, 0.6, 0.2, 0.0]),
    ],
)
def test_beta_schedules(beta: Beta, values: list[float]) -> None:
    assert [float(beta(jnp.int32(i))) for i in range(4)] == pytest.approx(values)


def half_blind(obs: np.ndarray) -> np.ndarray | None:
    """Knows what to do on the left only."""
    return np.float32([-0.5, 0.5]) if obs[0] < 0 else None


class Lessons:
    """DAgger in states of our choice."""

    def __init__(self, agent: DAgger, law: Any, round: int = 0, num_envs: int = 2) -> None:
        self.spec = replace(SPEC, num_envs=num_envs)
        self.agent = agent.taught_by(CallableExpert("callable:law", law, self.spec))
        self.learner = self.agent.init(self.spec, jax.random.key(0))
        fits = replace(self.learner.policy, fits=jnp.int32(round))
        self.learner, self.memory = replace(self.learner, policy=fits), self.agent.memory(self.spec)

    def act(self, obs: Any, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        obs = np.float32(obs)
        actions, self.memory, notes = self.agent.act(
            self.learner, timestep(obs), self.memory, jax.random.key(seed), True
        )
        return np.asarray(actions), {name: np.asarray(note) for name, note in notes.items()}


def test_in_the_first_round_the_expert_acts_and_where_it_does_not_know_the_policy_does() -> None:
    lessons = Lessons(DAgger(policy=CLONE), half_blind)
    actions, notes = lessons.act([[-1.0, 0, 0], [1.0, 0, 0]])
    assert notes["labelled"].tolist() == notes["intervention"].tolist() == [True, False]
    np.testing.assert_array_equal(actions[0], [-0.5, 0.5])
    own, _, _ = CLONE.act(lessons.learner.policy, timestep([[1.0, 0, 0]]), (), jax.random.key(0), False)
    np.testing.assert_allclose(actions[1], own[0], atol=1e-6)


def test_later_the_policy_acts_and_the_expert_labels() -> None:
    lessons = Lessons(DAgger(policy=CLONE), half_blind, round=1)
    actions, notes = lessons.act([[-1.0, 0, 0], [-2.0, 0, 0]])
    assert notes["labelled"].all()
    assert not notes["intervention"].any()
    np.testing.assert_array_equal(notes["label"], [[-0.5, 0.5]] * 2)
    assert (actions != notes["label"]).all()


def test_beta_is_how_often_the_expert_acts() -> None:
    lessons = Lessons(DAgger(policy=CLONE, beta=Beta("exponential", 0.3)), lambda obs: [1.0, 1.0], 1, num_envs=64)
    led = np.concatenate([lessons.act(np.zeros((64, 3)), seed)[1]["intervention"] for seed in range(5)])
    assert 0.2 < led.mean() < 0.4


def test_a_budget_is_never_overdrawn() -> None:
    lessons = Lessons(DAgger(policy=CLONE, query=Query(budget=7)), lambda obs: [0.0, 0.0], round=1)
    asked = [lessons.act(np.zeros((2, 3)), seed)[1]["labelled"].sum() for seed in range(6)]
    assert asked == [2, 2, 2, 1, 0, 0]


def test_a_random_share_is_asked() -> None:
    agent = DAgger(policy=CLONE, query=Query("random", share=0.25))
    lessons = Lessons(agent, lambda obs: [0.0, 0.0], round=1, num_envs=64)
    asked = np.concatenate([lessons.act(np.zeros((64, 3)), seed)[1]["labelled"] for seed in range(5)])
    assert 0.15 < asked.mean() < 0.35


@pytest.mark.parametrize("strategy", ["disagreement", "value-drop", "distance"])
def test_doubt_decides_where_to_ask(strategy: Any) -> None:
    """Above the threshold it asks, below it does not; and the threshold is the last round's quantile."""
    agent = DAgger(policy=CLONE, query=Query(strategy, share=0.25), round_steps=200)
    lessons = Lessons(agent, lambda obs: np.tanh(obs[:2]), round=1, num_envs=4)
    replay, random = Replay.create(lessons.spec, 200, agent.extras(lessons.spec)), np.random.default_rng(0)
    doubts = []
    for seed in range(50):
        obs = random.normal(size=(4, 3))
        _, notes = lessons.act(obs, seed)
        doubts.append(notes["doubt"])
        kept = {name: jnp.asarray(notes[name]) for name in agent.extras(lessons.spec)}
        steps = [(o, 0.0, False, False, o) for o in obs]
        replay = remember(replay, steps, notes["label"], np.arange(4, dtype=np.int32), kept)
    before = lessons.learner
    lessons.learner, _ = lessons.agent.refit(before, replay, jax.random.key(1))
    threshold = float(lessons.learner.doubt.threshold)
    assert threshold == pytest.approx(np.quantile(doubts, 0.75), rel=1e-4)
    lessons.learner = replace(before, doubt=lessons.learner.doubt)
    for seed in range(5):
        _, notes = lessons.act(random.normal(size=(4, 3)), seed)
        np.testing.assert_array_equal(notes["labelled"], notes["doubt"] >= threshold)


def test_the_expert_takes_over_and_gives_back() -> None:
    """HG-DAgger: labels come only while the expert is in charge, and it stays so until they agree to within half."""
    distance = {0.0: 0.05, 1.0: 0.5, 2.0: 0.15}  # by state, how far the expert is from the policy, which does 0

    agent = DAgger(policy=CLONE, takeover=0.2)
    lessons = Lessons(agent, lambda obs: [distance[float(obs[0])]] * 2, round=1, num_envs=1)
    zero = jax.tree.map(jnp.zeros_like, lessons.learner.policy.policy.members)
    policy = replace(lessons.learner.policy, policy=replace(lessons.learner.policy.policy, members=zero))
    lessons.learner = replace(lessons.learner, policy=policy)
    led = []
    for state in (0.0, 2.0, 1.0, 2.0, 0.0, 2.0):
        _, notes = lessons.act([[state, 0, 0]])
        assert notes["labelled"] == notes["intervention"]
        led.append(bool(notes["intervention"][0]))
    assert led == [False, False, True, True, False, False]


def test_returns_to_go() -> None:
    spec = Spec(obs_shape=(1,), action_dim=1)
    replay, zero = Replay.create(spec, 4), np.zeros(1)
    for reward, end in ((9.0, False), (1.0, False), (2.0, True), (3.0, False), (4.0, False)):  # the first is lost
        replay = remember(replay, [(zero, reward, end, False, zero)], np.zeros((1, 1)))
    rows = returns_to_go(replay, jnp.zeros((4, 1)), DISCOUNT, 1.0)[:, 0]
    np.testing.assert_allclose(rows, [4.0, 1.0 + DISCOUNT * 2.0, 2.0, 3.0 + DISCOUNT * 4.0], rtol=1e-6)


# ---------------------------------------------------------------------- experts
@pytest.mark.parametrize(
    ("spec", "answer", "action"),
    [
        (SPEC, [0.5, -1.0], [0.5, -1.0]),
        (SPEC, jnp.array([0.5, -1.0]), [0.5, -1.0]),
        (replace(SPEC, action_dim=1), 0.25, [0.25]),
        (DISCRETE, 2, [0, 0, 1]),
        (DISCRETE, np.int64(0), [1, 0, 0]),
        (DISCRETE, [0, 1, 0], [0, 1, 0]),
    ],
)
def test_any_callable_is_an_expert(spec: Spec, answer: Any, action: list[float]) -> None:
    """(PITFALLS 53)"""
    labels, known, _ = ask(spec, answer)
    assert known.all()
    np.testing.assert_array_equal(labels[0], action)


@pytest.mark.parametrize(
    ("spec", "answer"), [(SPEC, 0.5), (SPEC, [2.0, 0.0]), (DISCRETE, 3), (DISCRETE, 0.5), (DISCRETE, [0.5, 0.5, 0.0])]
)
def test_an_answer_that_is_no_action_is_refused(spec: Spec, answer: Any) -> None:
    with pytest.raises(UsageError, match="callable:law answered"):
        ask(spec, answer)


def ask(spec: Spec, answer: Any) -> Labels:
    expert = CallableExpert("callable:law", lambda obs: answer, spec)
    return expert.label(timestep(np.zeros((1, 3))), (), jax.random.key(0), np.ones(1, np.bool_))


def test_bad_configurations_are_refused() -> None:
    for make, message in (
        (lambda: Query(share=0.0), "share is 0.0"),
        (lambda: Beta("linear", 1.5), "rate is 1.5"),
        (lambda: BC(members=0), "members and widths must be at least 1"),
        (lambda: DAgger(query=Query("disagreement")), "members is 1"),
        (lambda: DAgger(round_steps=0), "round-steps is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            make()
