"""States, pictures, looks ahead and retraining, without a server."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from labelled import SMALL, Chooser, made, opened
from PIL import Image

from foreplan import presets
from foreplan.core.errors import UsageError
from foreplan.envs.vector import first_step
from foreplan.label.adviser import Adviser
from foreplan.label.asking import choose
from foreplan.label.desk import Refused
from foreplan.label.retraining import better
from foreplan.label.session import Session
from foreplan.label.visits import Policy, Visit, collect
from foreplan.planners.random_shooting import RandomShooting


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs") / "walk")


@pytest.fixture
def run(walk, tmp_path):
    """A run that nobody has labelled."""
    return shutil.copytree(walk, tmp_path / "run", ignore=shutil.ignore_patterns("labels"))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    session = opened(made(tmp_path_factory.mktemp("runs") / "pendulum", "jax/pendulum"))
    yield session
    session.close()


def picture(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)))


def answer(session: Session, law) -> None:
    """Label all states with what `law` says of their observations."""
    for visit in session.desk.lease("p", [], 20)[0]:
        message = {"id": visit.id, "state": visit.id, "policy": session.policy.version, "page": "p", "who": "anna"}
        session.desk.answer(message | {"verdict": "label", "action": [float(np.clip(law(visit.obs), -1, 1))]})


def back_to_the_middle(obs: np.ndarray) -> float:
    return -float(obs[0]) - float(obs[1])


def test_the_same_run_asks_about_the_same_states(walk) -> None:
    first, second = opened(walk), opened(walk)
    assert list(first.desk.queue.visits) == list(second.desk.queue.visits)
    assert len(first.desk.queue.visits) == 12
    first.close()
    second.close()


def test_every_visit_can_be_gone_back_to(pendulum) -> None:
    env = pendulum._make(0)
    visits, returns = collect(pendulum.policy, env, 1)
    assert len(visits) == env.spec.episode_length
    total = 0.0
    for visit, later in zip(visits, [*visits[1:], None], strict=True):
        env.restore(visit.snapshot)
        env.send(visit.action[None])
        after = env.recv()
        total += float(after.reward[0])
        assert later is None or np.array_equal(after.obs[0], later.obs)
    assert total == pytest.approx(returns[0], rel=1e-5)


def test_strategies_choose_what_they_say() -> None:
    here = first_step(np.zeros((1, 2), np.float32))
    actions = (0.0, 0.0, 0.9, 0.8, -0.2)
    visits = [Visit(str(t), 0, t, here, {}, (), np.array([a]), ()) for t, a in enumerate(actions)]
    assert choose(visits, "all", 2) == visits[:2]
    assert choose(visits, "wavering", 2) == [visits[4], visits[2]]
    assert sorted(v.time for v in choose(visits, "random", 9)) == [0, 1, 2, 3, 4]
    assert [v.time for v in choose(visits, "random", 5, seed=1)] != [
        v.time for v in choose(visits, "random", 5, seed=2)
    ]
    with pytest.raises(UsageError, match="'random'"):
        choose(visits, "randm", 2)


class Judge(Chooser):
    def doubt(self, learner, obs):
        return abs(obs[:, 0])

    def value(self, learner, obs):
        return obs[:, 0]


class Follower(Adviser):
    def propose(self, visit):
        return [visit.obs[0]]


def test_strategies_that_judge_ask_where_the_judge_is_in_doubt() -> None:
    """An ensemble of two laws that differ by the first observation, values equal to it, a planner that does it."""
    at = (0.1, 0.9, -0.5, 0.3, 0.2)
    visits = [
        Visit(str(t), 0, t % 3, first_step(np.array([[x, 0.0]], np.float32)), {}, (), np.zeros(1), ())
        for t, x in enumerate(at)
    ]
    policy, planner = Policy(0, Judge(), ()), object.__new__(Follower)
    assert [v.id for v in choose(visits, "disagreement", 2, policy)] == ["1", "2"]
    assert [v.id for v in choose(visits, "value-drop", 2, policy)] == ["2", "4"]  # of 3 a new episode begins
    assert [v.id for v in choose(visits, "planner", 2, policy, planner)] == ["1", "2"]
    nobody = Policy(0, Chooser(), ())
    for strategy, complaint in [("disagreement", "no ensemble"), ("value-drop", "no value"), ("planner", "--planner")]:
        with pytest.raises(UsageError, match=complaint):
            choose(visits, strategy, 2, nobody)


def test_the_picture_is_of_the_state_and_the_clip_ends_with_it(pendulum) -> None:
    late = next(v for v in pendulum.desk.queue.visits.values() if v.time > 20)
    frame, clip = pendulum.pictures(late.id)
    env = pendulum._make(48)
    env.restore(late.snapshot)
    assert np.array_equal(picture(frame), env.render())
    strip = picture(clip.image)
    assert (strip.shape, clip.frames) == ((48, 48 * clip.frames, 3), len(late.past) + 1)
    assert np.array_equal(strip[:, -48:], env.render())
    assert not np.array_equal(strip[:, :48], env.render())  # the pendulum moved


def test_a_look_ahead_with_the_policys_own_action_is_the_policys(pendulum) -> None:
    visit = next(iter(pendulum.desk.queue.visits.values()))
    message = {"state": visit.id, "policy": "policy-0", "hold": 1}
    same = pendulum.preview(message | {"action": visit.action.tolist()})
    assert same["label"] == same["policy"]
    other = pendulum.preview(message | {"action": [-float(np.sign(visit.action[0]))], "hold": 4})
    assert other["label"]["return"] != other["policy"]["return"]
    assert other["policy"] == same["policy"]
    assert other["label"]["seconds"] == pytest.approx(1.0)
    with pytest.raises(Refused, match="hold is 0"):
        pendulum.preview(message | {"action": [0.0], "hold": 0})


def test_a_look_ahead_adds_up_the_rewards_of_the_simulator(walk) -> None:
    session = opened(walk)
    visit = next(iter(session.desk.queue.visits.values()))
    found = session.preview({"state": visit.id, "policy": "policy-0", "action": [1.0], "hold": 10_000})["label"]
    env = session._make(0)
    env.restore(visit.snapshot)
    total = 0.0
    for _ in range(round(found["seconds"] / session.studio.seconds_per_decision)):
        env.send(np.ones((1, 1), np.float32))
        total += float(env.recv().reward[0])
    assert found["return"] == pytest.approx(total)
    session.close()


def test_retraining_ends_in_a_policy_that_is_accepted_by_hand_and_survives(run) -> None:
    session = opened(run)
    with pytest.raises(Refused, match="no labels"):
        session.retrain()
    with pytest.raises(Refused, match="no retrained policy"):
        session.accept()
    old = next(iter(session.desk.queue.visits))
    answer(session, back_to_the_middle)
    session.retrain()
    session.retraining.wait()
    attempt = session.status()["retraining"]
    assert (attempt["phase"], attempt["labels"], attempt["after"]["episodes"]) == ("ready", 12, 2)
    losses = [loss for _, loss in attempt["curve"]]
    assert losses[-1] < losses[0]
    assert attempt["frames"].keys() == {"before", "after"}
    assert session.policy.number == 0  # nothing changes before it is accepted
    session.accept()
    session.prepared()
    status = session.status()
    assert (status["policy"], status["done"], status["left"], status["retraining"]) == ("policy-1", 12, 12, None)
    with pytest.raises(Refused, match="policy-1 has replaced policy-0"):
        session.desk.visit(old, "policy-0")
    gain, states = np.asarray(session.policy.learner.gain), list(session.desk.queue.visits)
    session.close()
    again = opened(run)
    assert again.policy.number == 1
    assert np.array_equal(again.policy.learner.gain, gain)
    assert list(again.desk.queue.visits) == states
    again.close()


@pytest.mark.parametrize(("gain", "number"), [(1.0, 1), (-1.0, 0)])
def test_the_guard_accepts_only_what_is_better(run, gain, number, monkeypatch) -> None:
    returns = {0: [0.0, 1.0, 2.0, 3.0, 4.0], 1: [gain + value for value in range(5)]}
    monkeypatch.setattr(Session, "_returns", lambda session, policy: returns[policy.number])
    session = opened(run, replace(SMALL, guard=0.9))
    answer(session, back_to_the_middle)
    session.retrain()
    session.retraining.wait()
    assert session.policy.number == number
    session.close()


def test_a_retraining_that_fails_is_said_and_labelling_goes_on(run) -> None:
    def broken(policy, labels, report):
        report(0.0, float("nan"))
        raise ValueError("out of\ncrayons")

    session = opened(run, SMALL, broken)
    answer(session, back_to_the_middle)
    session.retrain()
    session.retraining.wait()
    attempt = session.status()["retraining"]
    assert (attempt["phase"], attempt["error"], attempt["curve"]) == ("failed", "ValueError: out of crayons", [])
    session.discard()
    assert session.status()["retraining"] is None
    session.close()


def test_confidence_needs_episodes() -> None:
    assert better([], []) is None
    assert better([1.0, 2.0], [2.0, 3.0]) == 0.75  # two that have risen by chance: one in four
    assert better([1.0] * 10, [0.0] * 10) == 0.0
    assert better([1.0] * 10, [1.0] * 10) == 0.5
    assert 0.2 < better([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]) < 0.8


def test_discrete_actions_have_names_and_are_one_hot(tmp_path) -> None:
    session = opened(made(tmp_path / "cartpole", "gym/CartPole-v1", Chooser(random_decisions=60)))
    assert session.hello()["space"] == {"kind": "discrete", "names": ["left", "right"]}
    assert session.hello()["decision"] == pytest.approx(0.02)
    (state,) = session.lease({"page": "p", "want": 1})["states"]
    assert sorted(state["proposals"]["policy"]) == [0.0, 1.0]
    with pytest.raises(Refused, match="one 1 among 1 zeros"):
        session.desk.action([0.5, 0.5])
    assert session.desk.action([0, 1]) == (0.0, 1.0)
    session.close()


def test_names_and_units_where_they_are_known(pendulum) -> None:
    (state,) = pendulum.lease({"page": "p", "want": 1})["states"]
    assert [(part["name"], part["unit"]) for part in state["obs"]] == [("cos", ""), ("sin", ""), ("velocity", "rad/s")]
    assert pendulum.hello()["space"]["names"] == ["torque"]


def test_what_cannot_be_drawn_can_be_labelled(tmp_path) -> None:
    session = opened(made(tmp_path / "blind", "toys:blind"))
    (state,) = session.lease({"page": "p", "want": 1})["states"]
    frame, _ = session.pictures(state["id"])
    assert len(np.unique(picture(frame))) <= 3  # grey
    session.close()


def test_a_planner_proposes_what_is_better_than_its_opposite(pendulum, monkeypatch) -> None:
    monkeypatch.setattr(presets, "planner", lambda name: RandomShooting(horizon=10, num_samples=64))
    session = opened(pendulum.saved.out, replace(SMALL, planner="random-shooting", states=6))
    gains = []
    for state in session.lease({"page": "p", "want": 6})["states"]:
        (push,) = state["proposals"]["planner"]
        message = {"state": state["id"], "policy": "policy-0", "hold": 10}
        ours, opposite = (session.preview(message | {"action": [sign * push]})["label"] for sign in (1.0, -1.0))
        gains.append(ours["return"] - opposite["return"])
    assert np.mean(gains) > 0.0
    assert np.mean(np.array(gains) >= 0.0) > 0.5
    session.close()


def test_an_unknown_planner_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'icem'"):
        replace(SMALL, planner="icme")
