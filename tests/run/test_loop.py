"""The loop: it counts right, traces each program once, copies nothing behind one's back and loses nothing."""

import itertools
import json
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from toys import Breaks, Listening, Nested, Noting, Toy

from foreplan.core.errors import Diverged, EnvError, UsageError
from foreplan.core.types import TimeStep
from foreplan.envs.names import make
from foreplan.run import checkpoint
from foreplan.run.display import Plain
from foreplan.run.evaluate import evaluate
from foreplan.run.log import Log, Meter
from foreplan.run.loop import resume, train
from foreplan.run.saved import Saved
from foreplan.run.settings import Settings, decode, encode, read_config
from foreplan.run.state import put

TIMING = ("wall_s", "compile_s", "decisions_per_s", "updates_per_s", "share_act", "share_env", "share_learn")
SHORT = Settings(
    "toys:walk",
    asynchronous="no",
    steps=400,
    num_envs=2,
    log_every=100,
    eval_every=200,
    eval_episodes=2,
    save_every=150,
    keep=9,
)


def lines(out, name="metrics"):
    """The log without what depends on the clock on the wall."""
    records = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMING} for record in records]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return train(Toy(), SHORT, tmp_path_factory.mktemp("short") / "run")


def test_counters(short) -> None:
    records = lines(short)
    assert [record["env_steps"] for record in records] == [100, 200, 300, 400]
    for record in records:
        assert record["env_steps"] == record["decisions"] * 2  # the toy repeats actions twice
        assert record["decisions"] - 2 <= record["updates"] <= record["decisions"]
        assert record["utd"] == record["updates"] / record["decisions"]
    assert [record["env_steps"] for record in lines(short, "eval")] == [200, 400]
    assert [int(path.name[-3:]) for path in checkpoint.all_checkpoints(short / "checkpoints")] == [152, 300, 400]
    assert records[-1]["episodes"] >= 200 // 25


def test_seconds_go_on_and_compilation_is_apart(short) -> None:
    records = [json.loads(line) for line in (short / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < a["wall_s"] < b["wall_s"] for a, b in itertools.pairwise(records))
    assert 0 < records[-1]["compile_s"] < records[-1]["wall_s"]


@pytest.mark.parametrize(("utd", "num_envs", "chunk"), [(0.25, 1, 1), (2.0, 2, 4), (0.75, 2, 2)])
def test_updates_are_made_as_owed(tmp_path, utd, num_envs, chunk) -> None:
    asked = []

    class Spy(Toy):
        def learn(self, learner, replay, key, num_updates):
            asked.append(num_updates)
            return super().learn(learner, replay, key, num_updates)

    settings = replace(SHORT, steps=600, num_envs=num_envs, eval_every=10**6, eval_episodes=1, save_every=10**6)
    train(Spy(utd=utd), settings, tmp_path / "run")
    last = lines(tmp_path / "run")[-1]
    assert set(asked) == {chunk}
    assert utd * (last["decisions"] - num_envs) - 2 * chunk < last["updates"] <= utd * last["decisions"]


def test_no_update_without_utd(tmp_path) -> None:
    out = train(Toy(utd=0.0), SHORT, tmp_path / "run")
    assert lines(out)[-1]["updates"] == 0


def test_seed_steps_are_uniform_and_made_up_for(tmp_path) -> None:
    out = train(Toy(random_decisions=100), replace(SHORT, steps=240), tmp_path / "run")
    replay = checkpoint.load(out / "checkpoints" / "step-000000240", "replay")["replay"]
    actions = replay["action"][:50].ravel()  # 100 decisions in 2 environments
    assert np.abs(actions).max() > 0.95
    assert abs(actions.mean()) < 0.2
    assert abs(np.mean(actions**2) - 1 / 3) < 0.08
    records = lines(out)
    assert records[0]["updates"] == 0
    assert records[-1]["updates"] >= 116


def test_agents_fit_to_all_data_now_and_then(tmp_path) -> None:
    """Just after the seed steps, then whenever 30 decisions have passed, before anything is logged or evaluated."""
    settings = replace(SHORT, steps=240, log_every=4)
    out = train(Noting(random_decisions=20), settings, tmp_path / "run")
    refits = [(record["decisions"], record["refits_at"]) for record in lines(out) if "refits_at" in record]
    assert [size * 2 for _, size in refits] == [20, 30, 60, 90, 120]
    assert [decisions for decisions, _ in refits] == [20, 30, 60, 90, 120]


def test_the_buffer_keeps_what_the_agent_notes_and_the_number_of_the_episode(tmp_path) -> None:
    out = train(Noting(random_decisions=20), SHORT, tmp_path / "run")
    replay = checkpoint.load(out / "checkpoints" / "step-000000400", "replay")["replay"]
    assert not replay["extras/doubled"][:10].any()  # nobody acted in the seed steps
    np.testing.assert_array_equal(replay["extras/doubled"][10:], 2 * replay["obs"][10:])
    ended = replay["terminated"] | replay["truncated"]
    for env in range(2):
        numbers = replay["episode"][:, env]
        np.testing.assert_array_equal(numbers[1:] != numbers[:-1], ended[:-1, env])
    shared = set(replay["episode"][:, 0]) & set(replay["episode"][:, 1])
    assert not shared
    assert len(np.unique(replay["episode"])) == 2 + ended[:-1].sum()


def test_each_program_is_traced_once(tmp_path, compiled) -> None:
    settings = replace(SHORT, num_envs=3, eval_episodes=4, seed=5)
    train(Toy(batch_size=5), settings, tmp_path / "run")
    names = compiled()
    assert names.count("jit(learn)") == names.count("jit(insert)") == 1
    assert names.count("jit(act)") == 2  # in training, and in evaluation with its own number of environments


def test_no_transfer_but_the_explicit_ones(tmp_path) -> None:
    """The whole loop, evaluation and checkpoints included, under JAX's transfer guard."""

    class Guarded(Plain):
        """Switches the guard on where training begins: an agent's `init` may do as it likes."""

        def begin(self, clock, watch, steps):
            super().begin(clock, watch, steps)
            jax.config.update("jax_transfer_guard", "disallow")

    try:
        train(Toy(), SHORT, tmp_path / "run", display=Guarded())
    finally:
        jax.config.update("jax_transfer_guard", "allow")
    assert lines(tmp_path / "run")[-1]["env_steps"] == 400


def test_the_guard_would_notice() -> None:
    with jax.transfer_guard("disallow"), pytest.raises(jax.errors.JaxRuntimeError, match="host-to-device"):
        jax.jit(lambda x: x)(np.ones(2))


def test_evaluation_leaves_training_alone(short, tmp_path) -> None:
    out = train(Toy(), replace(SHORT, eval_every=100, eval_episodes=5), tmp_path / "run")
    assert lines(out) == lines(short)


def test_evaluation_is_deterministic_and_on_seeds_of_its_own(short) -> None:
    saved = Saved.open(short)
    first, again, other = saved.evaluate(3), saved.evaluate(3), saved.evaluate(3, seed=1)
    assert first.returns == again.returns != other.returns
    assert first.env_steps == sum(first.lengths) * 2
    assert first.returns[:2] == lines(short, "eval")[-1]["returns"]  # of the same policy, in the run
    env = make("toys:walk")
    begin = {seed: env.reset(seed).obs.tobytes() for seed in range(100)}
    evaluated = make("toys:walk", num_envs=3).reset(2**31).obs
    assert not {obs.tobytes() for obs in evaluated} & set(begin.values())


def test_an_evaluation_that_is_interrupted_gives_nothing(short) -> None:
    saved, env = Saved.open(short), make("toys:walk")
    assert evaluate(saved.agent, saved.learner(env), env, interrupted=lambda: True) is None


def test_a_directory_that_exists_is_refused(short) -> None:
    before = sorted(short.iterdir())
    with pytest.raises(UsageError, match=r"exists.*foreplan resume"):
        train(Toy(), SHORT, short)
    assert sorted(short.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -5}, "steps is -5"),
        ({"num_envs": 0}, "num-envs is 0"),
        ({"action_repeat": 0}, "action-repeat is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(change, message) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SHORT, **change)


def test_bad_agents_are_refused_before_anything_is_built(tmp_path) -> None:
    for agent, message in (
        (Toy(nested=Nested(rate=float("nan"))), "agent.nested.rate is nan"),
        (Toy(utd=float("inf")), "agent.utd is inf"),
        (Toy(utd=-1.0), "utd is -1"),
    ):
        with pytest.raises(UsageError, match=message):
            train(agent, replace(SHORT, env="toys:nothing"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_configuration_comes_back() -> None:
    agent = Toy(nested=Nested(rate=0.5), utd=0.25)
    assert decode(json.loads(json.dumps(encode(agent)))) == agent


def test_a_run_directory_tells_what_it_is(short) -> None:
    agent, settings, config = read_config(short)
    assert (agent, settings) == (Toy(), SHORT)
    assert {"python", "jax", "numpy"} <= set(config["versions"])
    assert config["hardware"]["cpus"] >= 1


def test_what_is_not_finite_is_null_in_the_log(tmp_path) -> None:
    with closing(Log(tmp_path)) as log:
        log.write({"env_steps": 1, "loss": float("nan"), "returns": [1.0, float("inf")]})
    assert lines(tmp_path) == [{"env_steps": 1, "loss": None, "returns": [1.0, None]}]


def test_an_agent_that_diverges_is_told_from_a_bad_environment(tmp_path) -> None:
    with pytest.raises(Diverged, match=r"actions .* not finite.*newest checkpoint"):
        train(Toy(nested=Nested(rate=1e30)), SHORT, tmp_path / "run")


# ---------------------------------------------------------------------- going on
def test_a_longer_run_is_the_same_run(short, tmp_path) -> None:
    """Resumed with more steps, a run is what it would have been; only its first end was evaluated apart."""
    out = train(Toy(), replace(SHORT, steps=250), tmp_path / "run")
    assert lines(resume(out, steps=400))[-1] == lines(short)[-1]
    with_both_ends = [record["env_steps"] for record in lines(out, "eval")]
    assert with_both_ends == [200, 252, 400]


def test_a_full_ring_survives(tmp_path) -> None:
    settings = replace(SHORT, buffer=60, eval_every=10**6)
    twin = train(Toy(), settings, tmp_path / "twin")
    out = train(Toy(), replace(settings, steps=300), tmp_path / "run")
    assert lines(resume(out, steps=400))[-1] == lines(twin)[-1]


def test_a_run_that_goes_on_elsewhere_says_so(short, tmp_path) -> None:
    out = shutil.copytree(short, tmp_path / "run")
    resume(out, display=(here := Listening()))
    config = json.loads((out / "config.json").read_text())
    config["hardware"]["processor"] = "Abacus"
    (out / "config.json").write_text(json.dumps(config))
    resume(out, display=(elsewhere := Listening()))
    assert "another processor" not in "".join(here.said)
    assert "another processor, which may round otherwise: Abacus" in "".join(elsewhere.said)


def test_an_environment_that_fails_costs_nothing_learned(tmp_path) -> None:
    Breaks.total = 0
    out = tmp_path / "run"
    settings = replace(SHORT, env="toys:breaks", eval_every=10**6, save_every=10**6, eval_episodes=1)
    with pytest.raises(EnvError, match="the motor is on fire"):
        train(Toy(), settings, out)
    (path,) = checkpoint.all_checkpoints(out / "checkpoints")
    saved = checkpoint.load(path)
    rows, updates = len(saved["replay"]["reward"]), saved["clock"]["updates"]
    assert rows == saved["clock"]["turns"] == 64  # the 130th decision was in the 65th turn
    assert not saved["replay"]["truncated"][-1].any()

    resume(out, display=(listening := Listening()))
    assert any("new episodes begin" in line for line in listening.said)
    after = checkpoint.load(checkpoint.newest_whole(out / "checkpoints", pytest.fail))
    ended = after["replay"]["truncated"][rows - 1] | after["replay"]["terminated"][rows - 1]
    assert ended.all()  # no window leaks from the episodes that were lost into the new ones
    np.testing.assert_array_equal(after["replay"]["obs"][:rows], saved["replay"]["obs"])
    assert after["clock"]["updates"] > updates


def test_tensorboard_is_told_what_the_log_says(tmp_path, monkeypatch) -> None:
    """By the writer of tensorboardX, which is an extra: here a stand-in that remembers."""
    told: dict[tuple[str, int], float] = {}

    class SummaryWriter:
        def __init__(self, path):
            assert path == str(tmp_path / "run" / "tensorboard")

        def add_scalar(self, name, value, step):
            told[name, step] = value

        def close(self):
            told["closed", 0] = 1.0

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    out = train(Toy(), replace(SHORT, tensorboard=True), tmp_path / "run")
    for record in lines(out):
        assert told["train/loss", record["env_steps"]] == record["loss"]
    for record in lines(out, "eval"):
        assert told["eval/mean", record["env_steps"]] == pytest.approx(np.mean(record["returns"]))
    assert told["closed", 0]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as where it is not installed
    with pytest.raises(UsageError, match="tensorboard needs the package tensorboardX"):
        train(Toy(), replace(SHORT, tensorboard=True), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_put_on_the_device_shares_no_memory() -> None:
    """JAX shares memory that is aligned to 64 bytes; what is written to it must not reach the buffer."""
    raw = np.zeros(128, np.uint8)
    numbers = raw[-raw.ctypes.data % 64 :][:8].view(np.int32)
    assert numbers.ctypes.data % 64 == 0
    _, placed = put((np.zeros(2, np.float32), numbers))
    numbers[:] = 9
    np.testing.assert_array_equal(placed, [0, 0])


def test_the_meter_counts_episodes_across_environments() -> None:
    def after(reward, terminated, truncated):
        flags = {"terminated": np.array(terminated), "truncated": np.array(truncated), "first": np.zeros(2, bool)}
        return TimeStep(obs=np.zeros((2, 3), np.float32), reward=np.array(reward, np.float32), **flags)

    meter = Meter(2)
    meter.add("learn", {"loss": jax.numpy.float32(1)})
    meter.add("learn", {"loss": jax.numpy.float32(2)})
    assert meter.stepped(after([1.0, 2.0], [False, False], [False, False])) == 0
    assert meter.stepped(after([3.0, 4.0], [True, False], [False, False])) == 1
    assert meter.stepped(after([10.0, 5.0], [False, False], [False, True])) == 1
    assert meter.read() == {"loss": 1.5, "return": (4 + 11) / 2, "episode_length": 2.5}
    assert meter.read() == {}
    assert meter.returns.tolist() == [10.0, 0.0]
