"""Planning in the true environment, from the command line and by its parts."""

import json

import pytest

from foreplan.cli import main
from foreplan.planners.discrete import Discrete
from foreplan.planners.icem import ICEM
from foreplan.run.planning import plan_episodes


def test_planning_swings_the_pendulum_up() -> None:
    """At random an episode costs about 1200; swung up at once and held, between 0 and 400."""
    result = plan_episodes("jax/pendulum", ICEM(horizon=20, num_samples=64, iterations=2), episodes=2)
    assert result.lengths == [200, 200]
    assert all(-450 < value < 0 for value in result.returns)


def test_planning_in_a_rolled_back_simulator_balances_the_pole() -> None:
    """One an environment step at best, 1000 an episode; with random actions some 350."""
    planner = ICEM(horizon=25, num_samples=32, iterations=2)
    heard = []
    result = plan_episodes("dmc/cartpole-balance", planner, 1, action_repeat=4, each=lambda *news: heard.append(news))
    assert result.lengths == [250]
    assert result.env_steps == 1000
    assert result.returns[0] > 900
    assert heard[-1] == (0, result.returns[0], 250)


@pytest.mark.filterwarnings("ignore:.*stepping copies")
def test_planning_among_discrete_actions_balances_the_pole() -> None:
    """Some 20 decisions at random. An hour of planning would reach 500: here the pole only has to stand longer."""
    planner = Discrete(horizon=12, num_samples=24, iterations=1, num_elites=4)
    heard = []

    class Enough(Exception):
        pass

    def each(episode: int, value: float, decisions: int) -> None:
        heard.append(value)
        if decisions == 100:
            raise Enough

    with pytest.raises(Enough):
        plan_episodes("gym/CartPole-v1", planner, 1, each=each)
    assert heard[-1] == 100.0


def test_the_command_line_plans(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "jax/pendulum", "--planner", "cem", "--options.horizon", "3", "--options.num-samples", "40"]
    assert main([*arguments, "--options.iterations", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["planner"] == "cem"
    assert answer["lengths"] == [200]
    assert answer["env_steps"] == 200
    assert {"returns", "mean", "seconds"} <= answer.keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jax/pendulum", "--planner", "icm"], "did you mean 'icem'"),
        (["jax/pendulm"], "did you mean 'jax/pendulum'"),
        (["gym/CartPole-v1"], "ICEM chooses continuous actions, and those of gym/CartPole-v1 are discrete"),
        (["jax/pendulum", "--planner", "discrete"], "Discrete chooses discrete actions"),
        (["jax/pendulum", "--options.horizon", "0"], "at least 1"),
        (["jax/pendulum", "--episodes", "0"], "episodes is 0"),
    ],
)
def test_bad_input_gets_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
