"""Planning in the true environment and in a learned model, from the command line and by its parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreplan import presets
from foreplan.cli import main
from foreplan.envs import names
from foreplan.planners.discrete import Discrete
from foreplan.planners.icem import ICEM
from foreplan.planners.named import PLANNERS, TASKS, Tuned
from foreplan.run.planning import plan_episodes
from foreplan.run.progress import Pulse
from foreplan.run.settings import Planning

TINY = ["--options.horizon", "3", "--options.num-samples", "12", "--options.num-elites", "4"]
TINY += ["--options.iterations", "1"]


class Enough(Exception):
    pass


def test_planning_swings_the_pendulum_up() -> None:
    """At random an episode costs about 1200; swung up at once and held, between 0 and 400."""
    heard: list[Any] = []
    planner = ICEM(horizon=20, num_samples=64, iterations=2)
    result = plan_episodes(Planning("jax/pendulum", episodes=1), planner, hear=lambda *news: heard.append(news))
    assert result.lengths == [200]
    assert all(-450 < value < 0 for value in result.returns)
    assert heard[-1] == (0, pytest.approx(result.returns[0], rel=1e-4), 200, 200)


@pytest.mark.filterwarnings("ignore:.*stepping copies")
def test_planning_among_discrete_actions_balances_the_pole() -> None:
    """Some 20 decisions at random. An hour of planning would reach 500: here the pole only has to stand longer."""
    planner = Discrete(horizon=12, num_samples=24, iterations=1, num_elites=4)
    heard, said = [], []

    def hear(episode: int, value: float, decisions: int, length: int | None) -> None:
        heard.append(value)
        if decisions == 60:
            raise Enough

    with pytest.raises(Enough):
        plan_episodes(Planning("gym/CartPole-v1"), planner, hear=hear, say=said.append)
    assert heard[-1] == 60.0
    assert "slow" in said[0]


def test_what_was_planned_is_kept_beside_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a deterministic world whose model is exact, the first foretold step is what came."""
    assert main(["plan", "jax/pendulum", *TINY, "--video", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"returns", "mean", "env_steps", "seconds"} <= answer.keys()
    assert (answer["planner"], answer["lengths"], answer["rollouts"]) == ("icem", [200], 200 * 12)
    assert {path.name for path in tmp_path.rglob("*.*")} >= {"config.json", "result.json", "episode-0.mp4"}
    assert Path(answer["report"]).read_text().count("data:image/png") == 3
    with np.load(tmp_path / "episodes" / "episode-0.npz") as kept:
        episode = dict(kept)
    assert episode["planned_action"].shape == (8, 3, 1)
    for number, at in enumerate(episode["planned_at"]):
        np.testing.assert_allclose(episode["action"][at], episode["planned_action"][number, 0], atol=1e-6)
        np.testing.assert_allclose(episode["reward"][at], episode["foretold_reward"][number, 0], rtol=1e-5)
        np.testing.assert_allclose(episode["obs"][at + 1], episode["foretold_obs"][number, 0], atol=1e-5)


def upside_down(before: Any, action: Any, after: Any) -> Any:
    return -np.cos(after.angle("hinge_1"))


def test_a_users_reward_is_planned_for(tmp_path: Path) -> None:
    """For a pole that shall hang, a planner that would else swing it up stays idle; the return is the task's own."""
    settings = Planning("dmc/cartpole-swingup", action_repeat=4, reward="run.test_planning:upside_down")
    heard: list[float] = []

    def hear(episode: int, value: float, decisions: int, length: int | None) -> None:
        heard.append(value)
        if decisions == 30:
            raise Enough

    with pytest.raises(Enough):
        plan_episodes(settings, ICEM(horizon=15, num_samples=24, iterations=1), hear=hear)
    assert 0.0 <= heard[-1] < 0.1 * 4 * 30


def test_names_and_presets_agree() -> None:
    assert set(presets.PLANNERS) == PLANNERS.keys()
    assert presets.tuned(["--seed", "1", "jax/pendulum"]) == Tuned("icem", PLANNERS["icem"])
    assert presets.tuned(["dmc/hopper-stand"]) == TASKS["dmc/hopper-stand"]


def test_what_a_task_is_planned_with_exists() -> None:
    for env, chosen in TASKS.items():
        names.validate(env)
        assert type(chosen.planner) in {type(planner) for planner in PLANNERS.values()}
        assert chosen.reward is None or callable(names.factory(chosen.reward, "reward"))
    shaped = Planning("dmc/hopper-stand").with_defaults(4, "module:function")
    assert (shaped.action_repeat, shaped.reward) == (4, "module:function")
    assert Planning("dmc/hopper-stand", reward="own").with_defaults(4, "module:function").reward is None


def test_progress_in_plain_lines(tmp_path: Path) -> None:
    with (tmp_path / "said").open("w") as file, Pulse(file, every=0.0) as pulse:
        pulse.tell(0, 1.5, 1, 4)
        pulse.tell(0, 3.0, 2, None)
        pulse.tell(0, 6.0, 4, 4)
    first, second, last = (tmp_path / "said").read_text().splitlines()
    assert "return 1.5 after 1/4 decisions" in first
    assert first.endswith("left")
    assert "after 2 decisions" in second
    assert "left" not in last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jax/pendulum", "--planner", "icm"], "did you mean 'icem'"),
        (["jax/pendulm"], "did you mean 'jax/pendulum'"),
        (["gym/CartPole-v1"], "ICEM chooses continuous actions, and those of gym/CartPole-v1 are discrete"),
        (["jax/pendulum", "--planner", "discrete"], "Discrete chooses discrete actions"),
        (["jax/pendulum", "--options.horizon", "0"], "at least 1"),
        (["jax/pendulum", "--options.horizon", "300"], "horizon is 300 decisions, an episode has 200"),
        (["jax/pendulum", "--episodes", "0"], "episodes is 0"),
        (["jax/pendulum", "--caution", "-1"], "caution is -1.0; accepted: finite numbers from 0"),
        (["jax/pendulum", "--caution", "1"], "no part has several networks to differ: give --dynamics or --value"),
        (["jax/pendulum", "--model", "nowhere"], "nowhere is not a run directory"),
        (["jax/pendulum", "--reward", "run.test_planning:upside_down"], "task cannot be changed"),
        (["dmc/cartpole-swingup", "--reward", "run.test_planning:upsidedown"], "did you mean 'upside_down'"),
        (["dmc/cartpole-swingup", "--reward", "run.test_planing:f"], "reward 'run.test_planing:f': module"),
        (["dmc/cartpole-swingup", "--terminated", "run.test_planning:upside_down"], "without reward"),
        (["dmc/cartpole-swingup", "--planner", "gradient"], "Gradient needs a differentiable model"),
        (["envs.factories:Noisy"], "--inexact"),
        (["envs.factories:Unbounded"], "finite bounds, low < high, are needed"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plan", *arguments, "--out", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
