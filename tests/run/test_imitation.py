"""Experts, demonstrations and warm starts in whole runs."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from cases import CLONE, SIMBA_SAC
from laws import steer
from toys import Toy

from foreplan.agents.dagger import DAgger
from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting
from foreplan.core.replay import sample
from foreplan.data import names
from foreplan.data.dataset import faults
from foreplan.envs import names as envs
from foreplan.guard import judge
from foreplan.planners.named import TASKS
from foreplan.run import checkpoint, experts, parts
from foreplan.run.loop import resume, train
from foreplan.run.record import record
from foreplan.run.saved import Saved
from foreplan.run.settings import Settings, Warm

STUDENT = DAgger(
    expert="laws:steer",
    policy=replace(CLONE, members=1, fitting=Fitting(lr=3e-3, batch_size=64, max_epochs=40)),
    round_steps=100,
)
SHORT = Settings("toys:walk", asynchronous="no", steps=600, num_envs=2, eval_every=600, eval_episodes=8, save_every=300)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    return train(STUDENT, SHORT, tmp_path_factory.mktemp("lessons") / "run")


def test_dagger_does_as_well_as_its_expert(lessons) -> None:
    expert = record("toys:walk", "laws:steer", 20).returns.mean()
    learned = Saved.open(lessons).evaluate(20).mean
    assert expert > -3.0
    assert learned > expert - 1.0


def test_what_dagger_has_learned_is_a_part(lessons) -> None:
    policy, student = parts.load(lessons, "policy").module, Saved.open(lessons)
    learner = checkpoint.unflatten(checkpoint.learner_like(STUDENT, _spec()), student.parts["learner"])
    obs = jax.random.normal(jax.random.key(0), (20, 2))
    said = [jax.vmap(lambda o, p=p: p.act(o, jax.random.key(0), False))(obs) for p in (policy, learner.policy.policy)]
    np.testing.assert_array_equal(*said)


def test_every_round_is_on_the_disk_with_its_provenance(lessons) -> None:
    from laws import steer

    data = names.load(str(lessons))
    assert len(data) == 300
    assert data.labelled.all()
    np.testing.assert_allclose(data.label[:, 0], [steer(obs) for obs in data.obs], rtol=1e-6)
    assert [(s.who, s.policy) for s in data.about.sources] == [
        ("callable:laws:steer", f"round-{i:03d}") for i in range(3)
    ]
    by_round = [data.intervention[data.source == i].mean() for i in range(3)]
    assert by_round == [1.0, 0.0, 0.0]
    np.testing.assert_array_equal(data.action[data.intervention], data.label[data.intervention])


def test_a_resumed_run_of_dagger_is_the_same_run(lessons, tmp_path) -> None:
    """It goes on in the middle of its second round, as if it had been killed after the checkpoint there."""
    out = shutil.copytree(lessons, tmp_path / "run")
    shutil.rmtree(out / "checkpoints" / "step-000000600")
    resume(out)
    one, other = (checkpoint.load(run / "checkpoints" / "step-000000600", "learner") for run in (lessons, out))
    for name, array in one["learner"].items():
        np.testing.assert_array_equal(array, other["learner"][name], err_msg=name)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("demos") / "walk.npz")
    names.save(path, record("toys:walk", "laws:steer", 12, seed=3))
    return path


def test_recorded_demonstrations_are_whole(demos) -> None:
    data = names.load(demos)
    assert len(data.returns) == 12
    assert faults(data) == []
    assert data.about.env == "toys:walk"
    assert data.about.action_repeat == 2


@pytest.mark.parametrize(("task", "repeat"), [("cartpole-swingup", 2), ("hopper-stand", 4), ("walker-walk", 1)])
def test_a_planner_teaches_with_what_has_proved_good_for_the_task(task: str, repeat: int) -> None:
    """However often actions are repeated, it looks as far ahead in time, for the same reward, in the same physics."""
    known = TASKS[f"dmc/{task}"]
    teacher = known.teacher or known.planner
    with closing(envs.make(f"dmc/{task}", action_repeat=repeat)) as env:
        agent = experts.make("plan", env)._agent  # type: ignore[attr-defined]
        assert agent.planner.horizon * repeat == teacher.horizon * known.action_repeat
        assert agent.planner.num_samples == teacher.num_samples
        assert agent.view.simulator._coarse == known.teacher_coarse
        shaped = getattr(agent.view.simulator.task.reward, "__name__", "") == task.replace("-", "_")
        assert shaped == (known.reward is not None)


def test_a_disturbed_expert_is_labelled_with_what_it_would_have_done() -> None:
    data = record("toys:walk", "laws:steer", 5, seed=3, noise=0.3)
    wanted = np.array([[steer(obs)] for obs in data.obs])
    np.testing.assert_allclose(data.label, wanted, atol=1e-6)
    inside = np.abs(data.action) < 1.0  # else it was cut off
    assert np.std((data.action - data.label)[inside]) == pytest.approx(0.3, rel=0.2)
    assert data.labelled.all()
    assert faults(data) == []


def test_discrete_actions_are_not_disturbed() -> None:
    with pytest.raises(UsageError, match="discrete"):
        record("gym/CartPole-v1", "laws:balance", 1, noise=0.1)


def test_bc_learns_from_demonstrations(demos, tmp_path) -> None:
    out = train(STUDENT.policy, replace(SHORT, steps=2, num_envs=1, warm=Warm(demos=demos)), tmp_path / "run")
    assert Saved.open(out).evaluate(20).mean > names.load(demos).returns.mean() - 2.0


def test_demonstrations_have_their_share_in_every_batch(demos, tmp_path) -> None:
    from foreplan.envs.names import make
    from foreplan.run.randomness import Keys
    from foreplan.run.state import begin

    settings = replace(SHORT, warm=Warm(demos=demos, demo_share=0.25))
    env = make("toys:walk", num_envs=2)
    replay = begin(Toy(), env, settings, Keys(0)).replay
    alone = sample(replay, 40, 2, jax.random.key(0))
    known = {obs.tobytes() for obs in names.load(demos).obs}
    assert all(np.asarray(obs).tobytes() in known for obs in alone.obs[:, 0])
    one = replace(replay, size=replay.size + 1)
    mixed = sample(one, 40, 2, jax.random.key(0))
    of_demos = [np.asarray(obs).tobytes() in known for obs in mixed.obs[:, 0]]
    assert sum(of_demos) == 10
    np.testing.assert_array_equal(mixed.demo, of_demos)
    assert alone.demo.all()


def test_pretraining_and_beginning_from_a_run(demos, tmp_path) -> None:
    settings = replace(SHORT, steps=40, eval_every=40, warm=Warm(demos=demos, pretrain=50))
    first = train(Toy(), settings, tmp_path / "first")
    learned = checkpoint.load(first / "checkpoints" / "step-000000040", "learner")["learner"]
    assert learned["updates"] >= 50
    again = train(Toy(utd=0.0), replace(settings, warm=Warm(init=str(first))), tmp_path / "again")
    begun = checkpoint.load(again / "checkpoints" / "step-000000040", "learner")["learner"]
    np.testing.assert_array_equal(begun["gain"], learned["gain"])


def test_a_learner_of_another_run_acts_from_the_first_step(demos, tmp_path) -> None:
    """It learns when it would learn anyhow; who has only been shown something begins at random."""

    def begin(name: str, warm: Warm) -> tuple[bool, bool]:
        """Whether it (acts, learns) in its first decisions; the seed steps are 20 decisions."""
        settings = replace(SHORT, steps=40, log_every=4, save_every=40, warm=warm)
        log = train(Toy(random_decisions=20), settings, tmp_path / name) / "metrics.jsonl"
        early = json.loads(log.read_text().splitlines()[1])
        assert early["decisions"] < 20
        return "effort" in early, early["updates"] > 0

    assert begin("cold", Warm()) == (False, False)
    assert begin("shown", Warm(demos=demos, pretrain=5)) == (False, False)
    assert begin("begun", Warm(init=str(tmp_path / "cold"))) == (True, False)


def test_statistics_go_on_with_the_data_of_another_run(demos, tmp_path) -> None:
    """Those of the first run, of the demonstrations and of the second run, of 50 decisions each, once."""
    settings = Settings("toys:walk", steps=100, eval_every=100, eval_episodes=1, save_every=100)
    first = train(SIMBA_SAC, settings, tmp_path / "first")
    warm = Warm(init=str(first), demos=demos)
    again = train(SIMBA_SAC, replace(settings, seed=1, warm=warm), tmp_path / "again")
    counts = [
        checkpoint.load(run / "checkpoints" / "step-000000100", "learner")["learner"]["statistics/obs/count"]
        for run in (first, again)
    ]
    unseen = 50 - counts[0]  # what came after the last update
    assert 0 <= unseen < 5
    assert counts[1] == counts[0] + len(names.load(demos)) + 50 - unseen


def test_the_guard_accepts_only_what_is_better_for_sure() -> None:
    noise = np.random.default_rng(0).normal(size=20)
    old = (10.0 * noise).tolist()
    cases = {0.0: False, 0.1: False, 5.0: True, -5.0: False}
    for gain, accepted in cases.items():
        new = (10.0 * noise + gain + np.random.default_rng(1).normal(size=20)).tolist()
        assert judge(new, old, 0.95).accepted == accepted, gain
    clear = judge([float(i) + 1.0 for i in range(20)], [float(i) for i in range(20)], 0.95)
    assert clear.low == pytest.approx(1.0)


def test_an_incumbent_that_is_better_stays(lessons, capsys, tmp_path) -> None:
    words = ["train", "bc", "toys:walk", "--demos", str(lessons), "--agent.fitting.max-epochs", "1", "--json"]
    words += ["--agent.fitting.lr", "1e-9", "--agent.widths", "4", "--eval-episodes", "2"]
    assert main([*words, "--incumbent", str(lessons), "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accepted"] is False
    told = json.loads((tmp_path / "run" / "guard.json").read_text())
    assert told["incumbent"] == str(lessons)
    assert len(told["new"]) == len(told["old"]) == 20


def test_another_agents_policy_acts_in_the_seed_steps(lessons, tmp_path) -> None:
    settings = replace(SHORT, steps=100, warm=Warm(init=str(lessons)))
    out = train(Toy(random_decisions=50, utd=0.0), settings, tmp_path / "run")
    replay = checkpoint.load(out / "checkpoints" / "step-000000100", "replay")["replay"]
    guide = Saved.open(lessons)
    learner = checkpoint.unflatten(checkpoint.learner_like(STUDENT, SPEC := _spec()), guide.parts["learner"])
    for obs, action in zip(replay["obs"], replay["action"], strict=True):
        expected = jax.vmap(lambda o: learner.policy.policy.act(o, jax.random.key(0), False))(obs)
        np.testing.assert_allclose(action, expected, atol=1e-5)
    assert SPEC.num_envs == 2


def test_after_the_seed_steps_the_guide_is_no_longer_needed(lessons, tmp_path) -> None:
    guide = shutil.copytree(lessons, tmp_path / "guide")
    settings = replace(SHORT, steps=100, warm=Warm(init=str(guide)))
    out = train(Toy(random_decisions=50, utd=0.0), settings, tmp_path / "run")
    shutil.rmtree(guide)
    resume(out, steps=120)
    assert checkpoint.all_checkpoints(out / "checkpoints")[-1].name == "step-000000120"


def _spec():
    from toys import Walk

    return replace(Walk.spec, num_envs=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train bc toys:walk", "bc learns from demonstrations alone: name some with --demos"),
        ("train dagger toys:walk --expert nobody", "expert 'nobody' is not known; accepted: plan, a run directory"),
        ("train dagger toys:walk --expert human", "foreplan label"),
        ("train tdmpc2 toys:walk --expert plan", "tdmpc2 asks no expert; dagger does"),
        ("train bc toys:walk --demos nowhere.npz", "nowhere.npz cannot be read"),
        ("train bc toys:walk --demos walk.npz --demo-share 1.5", "demo-share is 1.5"),
        ("train tdmpc2 toys:walk --pretrain 10", "pretrain is 10 without --demos"),
        ("train tdmpc2 toys:walk --incumbent nowhere", "nowhere is not a run directory"),
        ("data inspekt walk.npz", "did you mean 'inspect'"),
        ("data inspect nowhere", "nowhere cannot be read"),
        ("data record toys:walk --episodes 0", "episodes is 0"),
        ("data record toys:walk --noise -1", "noise is -1.0"),
        ("data record toys:walk --expert nobody --out there.npz", "there.npz cannot be written: it is there already"),
        ("data record toys:walk --expert nobody --out demos.csv", "data cannot be written to 'demos.csv'; accepted: "),
    ],
)
def test_bad_input_gets_one_line(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.npz").touch()
    assert main(words.split()) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def test_data_on_the_command_line(demos, capsys, tmp_path) -> None:
    picture = tmp_path / "returns.png"
    assert main(["data", "inspect", demos, "--out", str(picture), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["episodes"], found["ok"], found["faults"]) == (12, True, [])
    assert picture.stat().st_size > 5000


def test_minari_reads_back_what_was_written(demos, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = names.load(demos)
    names.save("minari:foreplan/walk-v0", data)
    back = names.load("minari:foreplan/walk-v0")
    for name, array in data.arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array, err_msg=name)
    assert back.about == data.about
    with pytest.raises(UsageError, match="minari:foreplan/walk-v0 cannot be written"):
        names.save("minari:foreplan/walk-v0", data)
    with pytest.raises(UsageError, match="minari:foreplan/nothing-v0 cannot be read"):
        names.load("minari:foreplan/nothing-v0")
