"""The command line: what it does, what it refuses and how it says so."""

import json
import os
import re
import runpy
import sys

import pytest

from foreplan import presets
from foreplan.cli import COMMANDS, main, parse
from foreplan.commands.sweep import Sweep


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    """An agent called `toy`, and a working directory of its own."""
    monkeypatch.setitem(presets.AGENTS, "toy", "toys:SIZES")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)


def said(capsys, *argv):
    """(exit code, lines of stdout, lines of stderr)"""
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


SHORT = ("--steps", 200, "--log-every", 100, "--eval-every", 100, "--eval-episodes", 2)


def test_train_resume_eval_and_report(capsys, tmp_path) -> None:
    code, out, _ = said(capsys, "train", "toy", "toys:walk", *SHORT, "--agent.nested.rate", 0.5, "--utd", 0.5, "--json")
    assert code == 0
    run = tmp_path / "runs" / "toy-toys-walk-s0"
    result = json.loads(out[-1])
    assert (tmp_path / result["out"], result["env_steps"], len(result["returns"])) == (run, 200, 2)
    config = json.loads((run / "config.json").read_text())
    assert (config["agent"]["nested"]["rate"], config["agent"]["utd"], config["run"]["steps"]) == (0.5, 0.5, 200)
    assert (run / "report.html").stat().st_size > 10_000
    assert list((run / "videos").glob("*.mp4"))

    code, out, err = said(capsys, "train", "toy", "toys:walk", *SHORT)
    assert (code, len(err)) == (2, 1)
    assert "foreplan resume" in err[0]

    code, out, _ = said(capsys, "resume", run, "--steps", 300, "--json")
    assert (code, json.loads(out[-1])["env_steps"]) == (0, 300)

    code, out, _ = said(capsys, "eval", run, "--episodes", 3, "--video", "--json")
    result = json.loads(out[-1])
    assert code == 0
    assert len(result["returns"]) == 3
    assert result["mean"] == pytest.approx(sum(result["returns"]) / 3)
    assert result["env_steps"] == 2 * sum(result["lengths"])
    assert result["seconds"] > 0
    assert result["trained_env_steps"] == 300
    assert result["video"].endswith("step-000000300.mp4")

    code, out, _ = said(capsys, "report", run, run, "--out", "both", "--json")
    assert (code, json.loads(out[-1])["report"]) == (0, "both/report.html")


def test_a_sweep_takes_the_options_of_its_agent(tmp_path) -> None:
    argv = ["toy", "toys:walk", "--utd", "0.5", "2", "--seed", "3", "--agent.nested.rate", "0.5"]
    command = parse(Sweep.of(argv), argv, "foreplan sweep")
    cells = [command.cell(command.agent, utd, 1, tmp_path) for utd in command.utd]
    assert [(cell.agent.utd, cell.agent.nested.rate, cell.settings.seed) for cell in cells] == [
        (0.5, 0.5, 4),
        (2.0, 0.5, 4),
    ]


def test_a_sweep_does_not_go_on_with_other_options(capsys, tmp_path) -> None:
    run = tmp_path / "sweep" / "utd0.5-s0"
    assert said(capsys, "train", "toy", "toys:walk", *SHORT, "--utd", 0.5, "--out", run)[0] == 0
    line = ("sweep", "toy", "toys:walk", *SHORT, "--utd", 0.5, "--out", run.parent)
    assert said(capsys, *line)[0] == 0  # all there is: it is finished
    code, _, err = said(capsys, *line, "--agent.nested.rate", 0.5)
    assert (code, len(err)) == (2, 1)
    assert "was begun with agent.nested.rate" in err[0]


def test_an_environment_that_cannot_be_drawn_is_no_failure(capsys, tmp_path) -> None:
    code, out, _ = said(capsys, "train", "toy", "toys:blind", *SHORT, "--out", "blind")
    assert code == 0
    assert "no video: no OpenGL here" in out
    assert "could not be drawn" in (tmp_path / "blind" / "report.html").read_text()


def test_a_failing_environment_is_one_line(capsys) -> None:
    from toys import Breaks

    Breaks.total = 0
    code, _, err = said(capsys, "train", "toy", "toys:breaks", *SHORT, "--eval-every", 10**6)
    assert (code, len(err)) == (1, 1)
    assert "toys:breaks" in err[0]
    assert "the motor is on fire" in err[0]


BAD = {
    "trian toy toys:walk": "unknown command 'trian'.*'train'",
    "train toi toys:walk": "unknown agent 'toi'.*'toy'",
    "train toy dmc/cartpole-swingupp": "unknown environment.*'dmc/cartpole-swingup'",
    "train toy toys:wlak": "unknown factory 'wlak'.*'walk'",
    "train toy toys:walk --stesp 3": "--stesp.*did you mean --steps",
    "train toy toys:walk --agent.nestd.rate 3": "--agent.nestd.rate.*did you mean --agent.nested.rate",
    "train toy toys:walk --size smal": "unknown size of toy 'smal'.*'small'",
    "train toy toys:walk --steps -3": "steps is -3; accepted: whole numbers from 1 up",
    "train toy toys:walk --steps many": "--steps: 'many' is not a whole number",
    "train toy toys:walk --steps": "--steps",
    "train toy toys:walk --num-envs 0": "num-envs is 0",
    "train toy toys:walk --action-repeat 0": "action-repeat is 0",
    "train toy toys:walk --agent.nested.rate nan": "agent.nested.rate is nan",
    "train toy toys:walk --agent.nested.rate fast": "'fast' is not a number",
    "train toy toys:walk --utd inf": "agent.utd is inf",
    "train toy toys:walk --asynchronous maybe": "'maybe'.*'auto', 'yes', 'no'",
    "train toy": "ENV",
    "train": "AGENT",
    "train toy gym/CartPole-v1": "Toy chooses continuous actions, and those of gym/CartPole-v1 are discrete",
    "train tdmpc2 gym/CartPole-v1": "TDMPC2 chooses continuous actions",
    "resume nowhere": "nowhere is not a run directory",
    "eval nowhere": "nowhere is not a run directory",
    "eval": "DIR",
    "report": "at least one run directory",
    "report nowhere": "nowhere is not a run directory",
    "check dmc/cartpol-swingup": "unknown environment.*'dmc/cartpole-swingup'",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_builds_nothing(capsys, tmp_path, line) -> None:
    code, _, err = said(capsys, *line.split())
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith("foreplan: ")
    assert re.search(BAD[line], err[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert COMMANDS[command].__doc__.splitlines()[0] in " ".join(capsys.readouterr().out.split())


def test_help_of_all_and_of_an_agent(capsys) -> None:
    code, out, _ = said(capsys, "--help")
    assert code == 0
    assert all(any(line.strip().startswith(command) for line in out) for command in COMMANDS)
    with pytest.raises(SystemExit):
        main(["train", "toy", "toys:walk", "--help"])
    assert "--agent.nested.rate" in capsys.readouterr().out


def test_help_does_not_wait_for_jax() -> None:
    import subprocess
    import sys

    code = "import sys, foreplan.cli; foreplan.cli.main(['--help']); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_package_runs_as_a_module(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["foreplan", "trian"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("foreplan", run_name="__main__")
    assert end.value.code == 2
    assert "train" in capsys.readouterr().err


def test_envs_and_check(capsys) -> None:
    code, out, _ = said(capsys, "envs", "jax/", "--json")
    assert (code, json.loads(out[-1])["envs"]) == (0, ["jax/cartpole-pets", "jax/cartpole-swingup", "jax/pendulum"])
    code, out, _ = said(capsys, "check", "jax/pendulum", "--json")
    assert (code, json.loads(out[-1])["ok"]) == (0, True)


def test_a_reader_that_has_gone_is_no_error() -> None:
    """As in `foreplan fit --help | head -1`."""
    import subprocess

    code = "import sys; from foreplan.cli import main; sys.exit(main(['fit', '--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
