"""Reports hold what the run's files say, in one file that needs no other."""

import json
import re

import numpy as np
import pytest
from test_loop import SHORT
from toys import Nested, Toy

from foreplan.core.errors import UsageError
from foreplan.insight.compare import at_counter, compare, finals, kinds_of
from foreplan.insight.history import History
from foreplan.insight.report import report
from foreplan.run.loop import train
from foreplan.run.saved import Saved


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(Toy(), SHORT, tmp_path_factory.mktemp("report") / "run", name="toy")


def test_a_report_needs_no_other_file(run) -> None:
    Saved.open(run).film()
    html = report(run).read_text()
    assert html.count("data:image/png;base64,") == 3  # learning curve, losses, imagination
    assert html.count("data:video/mp4;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "400 environment steps, 200 decisions, 198 updates" in html
    assert "toy on toys:walk" in html


def test_the_film_is_of_the_policy(run) -> None:
    film = Saved.open(run).film()
    with np.load(film.arrays) as episode:
        assert episode["obs"].shape == (len(episode["reward"]), 2)
        assert episode["action"].shape == (len(episode["reward"]), 1)
        np.testing.assert_allclose(episode["reward"], -(episode["obs"][:, 0] ** 2), rtol=1e-5)
        assert episode["imagined_reward"].shape == (25,)
    assert film.video is not None
    assert film.video.read_bytes()[4:8] == b"ftyp"


def test_a_run_that_has_just_begun_can_be_reported(run, tmp_path) -> None:
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert "Nothing has been logged yet" in report(tmp_path).read_text()
    first = (run / "metrics.jsonl").read_text().splitlines()[0]
    (tmp_path / "metrics.jsonl").write_text(first + '\n{"env_st')  # a line that is being written
    assert "100 environment steps" in report(tmp_path).read_text()


def fake(out, env, seed, returns, agent=None, name="toy"):
    """A run directory with the given returns at 100, 200, ... environment steps, a minute each."""
    out.mkdir(parents=True)
    config = {
        "name": name,
        "agent": {"class": "toys:Toy", "rate": 0.1} | (agent or {}),
        "run": {"env": env, "seed": seed},
    }
    (out / "config.json").write_text(json.dumps(config))
    evaluations = [
        {
            "env_steps": 100 * i,
            "decisions": 50 * i,
            "updates": 50 * i,
            "wall_s": 60.0 * i,
            "returns": [value - 1, value + 1],
        }
        for i, value in enumerate(returns, 1)
    ]
    (out / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evaluations))
    return out


def test_runs_are_compared_at_the_step_that_all_reached(tmp_path) -> None:
    runs = [fake(tmp_path / f"{s}", "a", s, values) for s, values in enumerate([[1.0, 2.0, 9.0], [3.0, 4.0]])]
    histories = [History.read(run) for run in runs]
    np.testing.assert_array_equal(finals(histories), [2.0, 4.0])
    minutes, returns = at_counter(histories, "wall_s", 60.0, points=3)
    np.testing.assert_allclose(minutes, [1.0, 1.5, 2.0])
    np.testing.assert_allclose(returns, [[1.0, 1.5, 2.0], [3.0, 3.5, 4.0]])


def test_what_differs_names_the_kind(tmp_path) -> None:
    runs = [
        fake(tmp_path / "0", "a", 0, [1.0]),
        fake(tmp_path / "1", "b", 1, [1.0]),
        fake(tmp_path / "2", "a", 0, [1.0], agent={"rate": 0.5}),
    ]
    assert kinds_of([History.read(run) for run in runs]) == ["toy rate=0.1", "toy rate=0.1", "toy rate=0.5"]


def test_what_most_configurations_have_is_not_named(tmp_path) -> None:
    """Of agents of the same name: what another one is called says enough."""
    agents = [{"rate": 0.1}, {"rate": 0.5}, {"rate": 0.1, "depth": 3}, {"depth": 4, "width": 8}]
    names = ["toy", "toy", "toy", "other"]
    runs = [
        fake(tmp_path / f"{i}", "a", i, [1.0], agent, name)
        for i, (agent, name) in enumerate(zip(agents, names, strict=True))
    ]
    assert kinds_of([History.read(run) for run in runs]) == ["toy", "toy rate=0.5", "toy depth=3", "other"]


def test_a_comparison_has_a_table_for_each_environment(tmp_path) -> None:
    runs = [fake(tmp_path / f"{env}{s}", env, s, [s + 1.0, s + 2.0]) for env in "ab" for s in range(4)]
    html = compare(runs, tmp_path / "out").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert "All environments" in html
    assert '<td>toy</td><td class="number">4</td><td>200</td><td class="number">3.5</td>' in html


def test_a_run_without_evaluations_cannot_be_compared(tmp_path) -> None:
    with pytest.raises(UsageError, match="no evaluations"):
        compare([fake(tmp_path / "0", "a", 0, [])], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_agents_without_a_model_are_reported_too(tmp_path) -> None:
    class Blunt(Toy):
        imagine = property()  # hasattr says no

    out = train(Toy(nested=Nested()), SHORT, tmp_path / "run")
    saved = Saved.open(out)
    saved = type(saved)(saved.out, Blunt(), saved.settings, saved.parts, saved.make_env)
    with np.load(saved.film().arrays) as episode:
        assert set(episode) == {"obs", "action", "reward"}
    assert "Imagined" not in report(out).read_text()
