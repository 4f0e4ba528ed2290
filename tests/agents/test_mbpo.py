"""What is particular to MBPO: rollouts that branch off and end as they should, and what a batch is made of."""

import re
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import MODEL_BASED
from probes import remember

from foreplan.agents.mbpo import MBPO, Learner, Rollouts, Schedule
from foreplan.agents.mbpo_parts import disagreement, foretold, rewards_foretold
from foreplan.agents.sac import SAC
from foreplan.core.errors import Diverged, UsageError
from foreplan.core.fitting import Fitting
from foreplan.core.replay import Replay, sample
from foreplan.core.types import Spec
from foreplan.worlds.ensemble import EnsembleWorld, Member

SPEC = Spec(obs_shape=(2,), action_dim=1, num_envs=1)
KEY = jax.random.key(0)


def zeros(steps: int = 40) -> Replay:
    """Real transitions: all observations and rewards 0, episodes of five steps."""
    replay, nothing = Replay.create(SPEC, 64), np.zeros(2, np.float32)
    for t in range(steps):
        replay = remember(replay, [(nothing, 0.0, False, t % 5 == 4, nothing)], np.zeros((1, 1)), t // 5)
    return replay


def counting(monkeypatch: pytest.MonkeyPatch, last: float) -> None:
    """A model in which the observation goes up by 1 and pays what it reaches, and in which `last` is the end."""

    def transitions(self: EnsembleWorld, obs: Any, action: Any, key: Any) -> Any:
        after = obs + 1.0
        return after, after[:, 0], jnp.where(after[:, 0] >= last, 0.0, 1.0)

    monkeypatch.setattr(EnsembleWorld, "transitions", transitions)


def branched(agent: MBPO, learner: Learner | None = None) -> tuple[Any, Any]:
    """What `branch` leaves in the buffer, oldest first, and its metrics."""
    learner = learner or agent.init(SPEC, KEY)
    imagined, metrics = agent.branch(learner, zeros(), KEY)
    return jax.tree.map(lambda ring: np.asarray(ring)[: int(imagined.size), 0], imagined.steps), metrics


def test_rollouts_end_where_the_model_says_and_keep_the_terminal_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps were asked for, the world ends after three (PITFALLS 5)."""
    counting(monkeypatch, last=3.0)
    rollouts = Rollouts(every=10, number=4, capacity=400, schedule=Schedule(5, 5))
    steps, metrics = branched(replace(MODEL_BASED, rollouts=rollouts))
    assert len(steps.reward) == 3 * 40
    np.testing.assert_array_equal(steps.obs[:, 0], np.repeat([0.0, 1.0, 2.0], 40))
    np.testing.assert_array_equal(steps.next_obs, steps.obs + 1.0)
    np.testing.assert_array_equal(steps.reward, steps.next_obs[:, 0])
    np.testing.assert_array_equal(steps.terminated, steps.next_obs[:, 0] == 3.0)
    assert float(metrics["rollouts_whole"]) == 0.0


def test_rollouts_end_where_a_users_function_says_once_it_is_verified() -> None:
    """Observations in the model scatter widely about 0; all that is real lies at 0, where nothing ends."""
    agent = replace(
        MODEL_BASED, terminated="ends:beyond", rollouts=replace(MODEL_BASED.rollouts, schedule=Schedule(2, 2))
    )
    learner = agent.init(SPEC, KEY)
    wide = eqx.tree_at(lambda it: it.world.scaling.target_std, learner, jnp.full(2, 3.0))
    unsure, _ = branched(agent, wide)
    ends, told = wide.world.ends.verified(zeros())
    assert (float(told["known_end_error"]), float(told["known_end_used"])) == (0.0, 1.0)
    steps, _ = branched(agent, replace(wide, world=replace(wide.world, ends=ends)))
    beyond = np.abs(steps.next_obs[:, 0]) > 3.0
    assert 5 < beyond[:40].sum() < 35
    np.testing.assert_array_equal(steps.terminated, beyond)
    assert len(steps.reward) == 80 - beyond[:40].sum()  # a rollout is cut, and keeps its terminal transition
    assert (unsure.terminated != (np.abs(unsure.next_obs[:, 0]) > 3.0)).any()  # until then, as it was learned


def test_rollouts_are_as_long_as_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    counting(monkeypatch, last=np.inf)
    for length in (1, 2):
        rollouts = Rollouts(every=10, number=4, capacity=100, schedule=Schedule(length, length))
        steps, metrics = branched(replace(MODEL_BASED, rollouts=rollouts))
        assert len(steps.reward) == 40 * length
        assert not steps.terminated.any()
        assert (float(metrics["rollout_length"]), float(metrics["rollouts_whole"])) == (length, 1.0)


def test_rollouts_of_older_models_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts of one step for 20 decisions are kept, and there are 10 between two fits."""
    rollouts = Rollouts(every=10, number=4, capacity=400, kept=20)
    agent = replace(MODEL_BASED, rollouts=rollouts)
    learner, sizes = agent.init(SPEC, KEY), []
    for last in (1.0, np.inf, np.inf):  # the first model ends at once, the others never
        counting(monkeypatch, last)
        jax.clear_caches()
        imagined, _ = agent.branch(learner, zeros(), KEY)
        learner = eqx.tree_at(lambda it: it.imagined, learner, imagined)
        sizes.append(int(imagined.size))
    assert sizes == [40, 80, 80]
    assert not sample(imagined, 1000, 1, KEY).terminated.any()


def test_the_schedule_is_the_papers() -> None:
    """Hopper: 1 until epoch 20, 15 from epoch 150, in a straight line (Janner et al. 2019, appendix C)."""
    hopper = Schedule(1, 15, 20_000, 150_000)
    lengths = [int(hopper.length(jnp.int32(d))) for d in (0, 20_000, 85_000, 149_000, 150_000, 10**6)]
    assert lengths == [1, 1, 8, 14, 15, 15]


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_a_batch_has_its_share_of_real_transitions(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Real rewards are 0, imagined ones 1, and nothing lies beyond: so the mean target is the imagined share."""
    counting(monkeypatch, last=np.inf)
    agent = replace(MODEL_BASED, real_ratio=ratio, sac=replace(MODEL_BASED.sac, discount=0.0))
    learner = agent.init(SPEC, KEY)
    imagined, _ = agent.branch(learner, zeros(), KEY)
    _, metrics = agent.learn(eqx.tree_at(lambda it: it.imagined, learner, imagined), zeros(), KEY, 1)
    assert float(metrics["target"]) == pytest.approx(1.0 - ratio, abs=1e-6)


def test_an_automatic_ratio_is_that_of_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above: real rewards are 0, imagined ones 1."""
    counting(monkeypatch, last=np.inf)
    agent = replace(MODEL_BASED, real_ratio="auto", sac=replace(MODEL_BASED.sac, discount=0.0))
    learner = agent.init(SPEC, KEY)
    assert float(learner.real) == 1.0  # until there is a model
    imagined, _ = agent.branch(learner, zeros(), KEY)
    learner = eqx.tree_at(lambda it: (it.imagined, it.real), learner, (imagined, jnp.float32(0.25)))
    _, metrics = agent.learn(learner, zeros(), KEY, 1)
    assert float(metrics["target"]) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("utd", "advantages", "rewards", "real"),
    [(0.5, 1.0, 1.0, 1.0), (2.0, 0.6, 1.0, 0.7), (4.0, 1.0, 0.6, 0.55), (20.0, 1.0, 1.0, 0.05), (40.0, 0.0, 1.0, 1.0)],
)
def test_a_batch_a_decision_is_real(
    monkeypatch: pytest.MonkeyPatch, utd: float, advantages: float, rewards: float, real: float
) -> None:
    """And the more of them, the less is known of advantages or of rewards."""
    monkeypatch.setattr("foreplan.agents.mbpo.foretold", lambda *_: jnp.float32(advantages))
    monkeypatch.setattr("foreplan.agents.mbpo.rewards_foretold", lambda *_: jnp.float32(rewards))
    agent = replace(MODEL_BASED, real_ratio="auto", utd=utd)
    assert float(agent.real_share(agent.init(SPEC, KEY), zeros(), KEY)) == pytest.approx(real)


def test_an_automatic_ratio_follows_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MBPO, "real_share", lambda *_: jnp.float32(0.5))
    agent = replace(MODEL_BASED, real_ratio="auto")
    learner, metrics = agent.refit(agent.init(SPEC, KEY), zeros(), KEY)
    assert float(learner.real) == float(metrics["real_ratio"]) == pytest.approx(0.95)


@pytest.mark.parametrize(("gain", "common", "known"), [(1, 0, 1), (1, 9, 1), (2, 9, 0.5), (0.5, 0, 1), (-1, 9, 0)])
def test_what_the_model_knows_of_what_actions_change(
    monkeypatch: pytest.MonkeyPatch, gain: float, common: float, known: float
) -> None:
    """The action, +1 or -1, is the next observation and its value. The model makes `gain` of it, and is wrong by
    `common` whatever is done: only what it makes too much of, or the opposite of, counts against it."""
    action = np.where(np.arange(40) % 2, 1.0, -1.0)
    replay = Replay.create(SPEC, 64)
    for t in range(40):
        after = np.full(2, action[t], np.float32)
        replay = remember(
            replay, [(np.zeros(2, np.float32), 0.0, False, t % 5 == 4, after)], action[t] * np.ones((1, 1)), t // 5
        )
    monkeypatch.setattr(Member, "predict", lambda _, obs, act: (gain * act[0] + common + jnp.zeros(2), jnp.ones(2)))
    monkeypatch.setattr(Member, "reward", lambda self, obs, action, after: jnp.zeros(()))
    monkeypatch.setattr(Member, "going_on", lambda self, obs, action, after: jnp.ones(()))
    share = foretold(
        MODEL_BASED.init(SPEC, KEY).world,
        lambda obs: obs[:, 0],
        lambda obs, key: jnp.zeros((len(obs), 1)),
        replay,
        Fitting(hold_out=0.0),
        discount=1.0,
        key=KEY,
    )
    assert float(share) == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize(
    ("rewards", "said", "known"),
    [
        ([0.0, 1.0], 1.0, 1.0),  # exactly
        ([0.0, 1.0], 0.75, 0.5),  # three quarters: a squared error of 1/32 in the mean, a variance of 1/4
        ([0.0, 1.0], 0.5, 0.0),  # half
        ([0.0, 0.0, 0.0, 1.0], 0.0, 0.0),  # none of a rare one
        ([1.0, 1.0], 0.999, 0.96),  # always the same, and all but exactly
        ([0.0, 0.0], 1.0, 1.0),  # none at all
    ],
)
def test_what_the_model_knows_of_rewards(
    monkeypatch: pytest.MonkeyPatch, rewards: list[float], said: float, known: float
) -> None:
    """The first action of an observation tells its reward, of which the model says the share `said`."""
    replay, nothing = Replay.create(SPEC, 64), np.zeros(2, np.float32)
    for t in range(40):
        reward = rewards[t % len(rewards)]
        replay = remember(replay, [(nothing, reward, False, t % 5 == 4, nothing)], reward * np.ones((1, 1)), t // 5)
    monkeypatch.setattr(Member, "reward", lambda self, obs, action, after: said * action[0])
    world = MODEL_BASED.init(SPEC, KEY).world
    assert float(rewards_foretold(world, replay, Fitting(hold_out=0.5))) == pytest.approx(known, abs=1e-4)


def test_with_real_data_alone_it_is_its_policys_own_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, but for the key that draws what is imagined."""
    real = zeros()
    agent = replace(MODEL_BASED, real_ratio=1.0, sac=replace(MODEL_BASED.sac, discount=0.97))  # no other test's program
    learner, before = agent.init(SPEC, KEY), SAC.update
    alone = jax.tree.map(jnp.copy, learner.sac)  # what is learned from is donated
    imagined = eqx.tree_at(lambda r: r.steps.reward, real, jnp.full((64, 1), 1e6))
    learner, _ = agent.learn(replace(learner, imagined=jax.tree.map(jnp.copy, imagined)), real, KEY, 5)
    monkeypatch.setattr(
        SAC, "update", lambda self, sac, window, key: before(self, sac, window, jax.random.split(key)[1])
    )
    alone, _ = agent.sac.learn(alone, real, KEY, 5)
    assert eqx.tree_equal(learner.sac, alone)


@pytest.mark.parametrize(("cloning", "learned"), [(4.0, True), (0.0, False)])
def test_the_policy_is_pulled_towards_demonstrations_alone(cloning: float, learned: bool) -> None:
    """Every reward is 1, so that no action is better; demonstrations do 0.6, all else 0."""
    own = eqx.tree_at(lambda r: r.steps.reward, zeros(), jnp.ones((64, 1)))
    demos = eqx.tree_at(lambda r: r.steps.action, own, jnp.full((64, 1, 1), 0.6))
    agent = replace(MODEL_BASED, real_ratio=0.5, sac=replace(MODEL_BASED.sac, discount=0.0, cloning=cloning))
    imagined = jax.tree.map(jnp.copy, own)  # what is learned from is donated
    learner = eqx.tree_at(lambda it: it.imagined, agent.init(SPEC, KEY), imagined)
    learner, _ = agent.learn(learner, replace(own, demos=demos, demo_share=0.5), KEY, 300)
    mode = agent.sac.modes(learner.sac.policy(jnp.zeros(2))[None])
    assert np.allclose(mode, 0.6, atol=0.15) == learned


def test_a_gate_ends_rollouts_where_the_elites_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """They disagree by 1 where rollouts begin, and by 1 more after each step."""

    def doubt(world: Any, obs: Any, action: Any) -> Any:
        return obs[:, 0] + 1.0

    counting(monkeypatch, last=np.inf)
    monkeypatch.setattr("foreplan.agents.mbpo.disagreement", doubt)
    rollouts = Rollouts(every=10, number=4, capacity=400, schedule=Schedule(5, 5), gate=3.5)
    steps, _ = branched(replace(MODEL_BASED, rollouts=rollouts))
    np.testing.assert_array_equal(steps.obs[:, 0], np.repeat([0.0, 1.0, 2.0], 40))
    thin, _ = branched(replace(MODEL_BASED, rollouts=replace(rollouts, gate=None, thin=True)))
    kept = [int((thin.obs[:, 0] == n).sum()) for n in range(5)]
    assert kept[0] == pytest.approx(40 * np.exp(-1.0), abs=8)
    assert sum(kept[3:]) < 8  # 40 (exp(-4) + exp(-5)) = 1 is expected


def test_elites_that_are_alike_do_not_disagree() -> None:
    world = MODEL_BASED.init(SPEC, KEY).world
    obs, action = jax.random.normal(KEY, (8, 2)), jnp.zeros((8, 1))
    apart = disagreement(world, obs, action)
    assert np.all(np.asarray(apart) > 0)
    alike = eqx.tree_at(lambda w: w.elites, world, jnp.zeros_like(world.elites))
    np.testing.assert_allclose(disagreement(alike, obs, action), 0.0, atol=1e-6)


def test_a_model_that_has_diverged_is_named_by_member_and_dimension() -> None:
    learner = MODEL_BASED.init(SPEC, KEY)
    last = learner.world.nets["dynamics"].net.layers[-1]
    poisoned = last.bias.at[2, 1].set(jnp.nan)
    learner = eqx.tree_at(lambda it: it.world.nets["dynamics"].net.layers[-1].bias, learner, poisoned)
    with pytest.raises(Diverged, match=r"member 2 of the model .* dimension 1"):
        MODEL_BASED.refit(learner, zeros(), KEY)


def test_refitting_is_deterministic_and_fills_the_buffer() -> None:
    learner = MODEL_BASED.init(SPEC, KEY)
    once, metrics = MODEL_BASED.refit(learner, zeros(), KEY)
    again, _ = MODEL_BASED.refit(learner, zeros(), KEY)
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(once.imagined.size) == 40
    MODEL_BASED.learn(once, zeros(), KEY, 1)  # the learner is donated, and what the refit said is yet to be logged
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(MODEL_BASED, real_ratio=1.5), "real-ratio is 1.5; accepted: numbers from 0 to 1, or auto"),
        (lambda: replace(MODEL_BASED, real_ratio=-0.1), "real-ratio is -0.1"),
        (
            lambda: replace(MODEL_BASED, terminated="ends:vector").init(SPEC, KEY),
            "ends:vector gives (2,) bool; accepted",
        ),
        (lambda: Schedule(shortest=1, longest=0), "from 1 to 0 steps; accepted: at least 1, and never shrinking"),
        (lambda: Schedule(begin=10, end=10), "accepted: 0 <= begin < end"),
        (lambda: Rollouts(every=250, number=400, capacity=1000), "a capacity that holds one step of all"),
        (lambda: Rollouts(gate=0.0), "gate is 0.0; accepted: numbers above 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as refused:
        make()
    assert "\n" not in str(refused.value)
