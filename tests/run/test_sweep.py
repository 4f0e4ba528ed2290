"""A sweep: every run is made, in processes, and called again it makes what is missing."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from toys import Toy

from foreplan.core.errors import UsageError
from foreplan.run.settings import Settings
from foreplan.run.sweep import Cell, last, results, sweep, table

SETTINGS = Settings(env="toys:walk", steps=120, eval_every=60, eval_episodes=2, log_every=60, save_every=60)


def cells(out: Path) -> list[Cell]:
    return [Cell(f"{utd:g}", Toy(utd=utd), replace(SETTINGS, seed=1), out / f"utd{utd:g}") for utd in (0.5, 2.0)]


@pytest.mark.slow
def test_a_sweep_makes_every_run_and_then_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")  # the worker imports toys
    asked = cells(tmp_path)
    assert sweep(asked, 2, "toy", lambda: None) == []
    assert [cell.state for cell in cells(tmp_path)] == ["done", "done"]
    achieved = [last(cell.out / "metrics.jsonl")["utd"] for cell in asked]
    assert achieved == pytest.approx([0.5, 2.0], rel=0.1)
    before = [(cell.out / "eval.jsonl").read_bytes() for cell in asked]
    shutil.rmtree(asked[1].out / "checkpoints" / "step-000000120")  # as if it had been interrupted
    assert [cell.state for cell in cells(tmp_path)] == ["done", "waiting"]
    again = cells(tmp_path)
    assert sweep(again, 1, "toy", lambda: None) == []
    assert [cell.process is None for cell in again] == [True, False]
    assert [len(run["returns"]) for run in results(again)] == [2, 2]
    assert (asked[0].out / "eval.jsonl").read_bytes() == before[0]
    longer = [replace(cell, settings=replace(cell.settings, steps=180), process=None) for cell in again]
    assert sweep(longer, 2, "toy", lambda: None) == []
    assert [last(cell.out / "metrics.jsonl")["env_steps"] for cell in longer] == [180, 180]


def test_the_table_fits_80_columns(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(cells(tmp_path), "UTD"))
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines] == ["UTD", "0.5", "2"]
    assert all(line.rstrip().endswith("waiting") for line in lines[1:])
    assert max(map(len, lines)) <= 80


def test_what_cannot_be_run_is_refused_before_any_process_begins(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jobs is 0"):
        sweep(cells(tmp_path), 0, "toy", lambda: None)
    with pytest.raises(UsageError, match="utd is -1"):
        sweep([Cell("-1", Toy(utd=-1.0), SETTINGS, tmp_path / "x")], 1, "toy", lambda: None)
    assert not (tmp_path / "x").exists()
