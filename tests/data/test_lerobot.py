"""LeRobot's form, read back with pyarrow: every column, what is said of it, and where each episode is."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.data import lerobot, names, npz
from foreplan.data.dataset import About, Dataset, Source, demonstration

LENGTHS = (5, 1, 6)
ABOUT = About("gym/Somewhere-v0", action_repeat=2, sources=(Source("human:anna", "round-000", 7.0),))


def visited(about: About = ABOUT) -> Dataset:
    """Three episodes, ended, cut off and both; the expert acts in the first two and labels most of the third."""
    rng = np.random.default_rng(0)
    steps, episode = sum(LENGTHS), np.repeat([4, 7, 9], LENGTHS)
    last = np.append(np.diff(episode) != 0, True)
    states = [rng.normal(size=(length + 1, 3)) for length in LENGTHS]
    data = demonstration(
        about,
        obs=np.concatenate([each[:-1] for each in states]),
        next_obs=np.concatenate([each[1:] for each in states]),
        action=rng.uniform(-1, 1, (steps, 2)),
        reward=rng.normal(size=steps),
        terminated=last & (episode != 7),
        truncated=last & (episode != 4),
        episode=episode,
        labelled=np.arange(steps) != steps - 1,
    )
    led = episode < 9
    label = np.where(led[:, None], data.action, rng.uniform(-1, 1, (steps, 2))).astype(np.float32)
    return dataclasses.replace(data, label=label, intervention=led)


def read(folder: Path) -> dict[str, np.ndarray]:
    table = parquet.read_table(folder / "data/chunk-000/file-000.parquet")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def meta(folder: Path, name: str) -> dict:
    return json.loads((folder / f"meta/{name}.json").read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot") / "walk"
    names.save(f"lerobot:{folder}", visited(), fps=20)
    return folder


def test_every_column_is_what_was_recorded(written) -> None:
    data, found = visited(), read(written)
    expected = {
        "observation.state": data.obs,
        "action": data.action,
        "next.reward": data.reward,
        "next.done": np.isin(np.arange(12), (4, 5, 11)),
        "next.truncated": np.arange(12) == 5,  # the third one ended when it was cut off
        "intervention": data.intervention,
        "label": data.label,
        "labelled": data.labelled,
        "source": data.source,
        "timestamp": np.array([0, 0.05, 0.1, 0.15, 0.2, 0, 0, 0.05, 0.1, 0.15, 0.2, 0.25], np.float32),
        "frame_index": [0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5],
        "episode_index": [0] * 5 + [1] + [2] * 6,
        "index": np.arange(12),
        "task_index": np.zeros(12),
    }
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
    np.testing.assert_array_equal(found["next.done"] & ~found["next.truncated"], data.terminated)
    assert found["intervention"].sum() == 6


def test_info_says_what_the_files_hold(written) -> None:
    info = meta(written, "info")
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 3,
        "total_frames": 12,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 20,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
    }
    schema = parquet.read_schema(written / info["data_path"].format(chunk_index=0, file_index=0))
    kinds = {"float": "float32", "bool": "bool", "int64": "int64"}
    for field in schema:
        size = getattr(field.type, "list_size", None)  # None: a number, which LeRobot calls a vector of one
        kind = str(field.type if size is None else field.type.value_type)
        assert features[field.name]["dtype"] == kinds[kind], field.name
        assert features[field.name]["shape"] == [size or 1], field.name
    assert features.keys() == set(schema.names)
    assert features["observation.state"]["names"] == ["state_0", "state_1", "state_2"]
    assert features["intervention"] == {"dtype": "bool", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        assert features[name] == {"dtype": "int64", "shape": [1], "names": None}
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}


def same_statistics(found: dict[str, list], column: np.ndarray) -> None:
    rows = column.reshape(len(column), -1).astype(np.float64)
    assert found["count"] == [len(rows)]
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(found[name], getattr(np, name)(rows, axis=0), err_msg=name)
    for percent in (1, 10, 50, 90, 99):
        np.testing.assert_allclose(found[f"q{percent:02d}"], np.percentile(rows, percent, axis=0))
    assert len(found) == 10


def test_statistics_are_those_of_the_columns(written) -> None:
    columns, stats = read(written), meta(written, "stats")
    assert stats.keys() == columns.keys()
    for name, column in columns.items():
        same_statistics(stats[name], column)
    assert stats["index"]["mean"] == stats["index"]["q50"] == [5.5]
    np.testing.assert_allclose(stats["index"]["std"], [np.sqrt((12**2 - 1) / 12)])
    assert stats["intervention"]["mean"] == [0.5]


def test_episodes_are_where_their_table_says(written) -> None:
    columns = read(written)
    rows = parquet.read_table(written / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    places = [(row["dataset_from_index"], row["dataset_to_index"], row["length"]) for row in rows]
    assert places == [(0, 5, 5), (5, 6, 1), (6, 12, 6)]
    groups = parquet.read_metadata(written / "data/chunk-000/file-000.parquet")
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [5, 1, 6]
    for i, row in enumerate(rows):
        assert (row["episode_index"], row["tasks"]) == (i, ["gym/Somewhere-v0"])
        for part in ("data", "meta/episodes"):
            assert row[f"{part}/chunk_index"] == row[f"{part}/file_index"] == 0
        for name, column in columns.items():
            head = f"stats/{name}/"
            known = {key.removeprefix(head): value for key, value in row.items() if key.startswith(head)}
            same_statistics(known, column[columns["episode_index"] == i])


def test_the_task_and_the_provenance_are_kept(written) -> None:
    table = parquet.read_table(written / "meta/tasks.parquet")
    assert table.to_pylist() == [{"task_index": 0, "task": "gym/Somewhere-v0"}]
    assert table.schema.pandas_metadata["index_columns"] == ["task"]  # LeRobot looks tasks up by pandas' index
    assert meta(written, "foreplan")["sources"] == [{"who": "human:anna", "policy": "round-000", "when": 7.0}]


def test_a_full_file_is_followed_by_another(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lerobot, "FILE_MB", 1e-5)  # ten bytes, so that five steps fill several
    monkeypatch.setattr(lerobot, "CHUNK", 2)
    names.save(f"lerobot:{tmp_path / 'walk'}", visited())
    info = meta(tmp_path / "walk", "info")
    assert info["fps"] == 30
    places = []
    for row in parquet.read_table(tmp_path / "walk/meta/episodes/chunk-000/file-000.parquet").to_pylist():
        place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        places.append(tuple(place.values()))
        found = parquet.read_table(tmp_path / "walk" / info["data_path"].format(**place))
        assert found["index"].to_pylist() == list(range(row["dataset_from_index"], row["dataset_to_index"]))
    assert places == [(0, 0), (0, 1), (1, 0)]  # none is left out


def test_one_number_is_no_vector(tmp_path) -> None:
    data = visited()
    short = {name: getattr(data, name)[:, :1] for name in ("obs", "next_obs", "action", "label")}
    names.save(f"lerobot:{tmp_path / 'walk'}", dataclasses.replace(data, **short))
    np.testing.assert_array_equal(read(tmp_path / "walk")["action"], data.action[:, 0])
    assert meta(tmp_path / "walk", "info")["features"]["action"] == {"dtype": "float32", "shape": [1], "names": None}


def test_rounds_on_the_command_line(tmp_path, capsys) -> None:
    for number, data in enumerate((visited(), dataclasses.replace(visited(), intervention=np.zeros(12, np.bool_)))):
        npz.save(tmp_path / f"rounds/round-{number:03d}/steps.npz", data)
    assert main(["data", "convert", str(tmp_path / "rounds"), f"lerobot:{tmp_path / 'walk'}", "--fps", "50"]) == 0
    assert "6 interventions; states only, no pictures" in capsys.readouterr().out
    found = read(tmp_path / "walk")
    assert found["intervention"].tolist() == [True] * 6 + [False] * 18
    assert found["episode_index"].max() == 5
    assert meta(tmp_path / "walk", "info")["fps"] == 50


def test_where_nobody_said_who_acted_there_is_no_intervention(tmp_path) -> None:
    plain = {name: array for name, array in visited().arrays.items() if name in npz.REQUIRED}
    np.savez(tmp_path / "plain.npz", **plain)
    names.save(f"lerobot:{tmp_path / 'walk'}", names.load(str(tmp_path / "plain.npz")))
    found = read(tmp_path / "walk")
    assert not found["intervention"].any()
    assert found["labelled"].all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("demo.npz lerobot:taken", "lerobot:taken cannot be written: it is there already"),
        ("demo.npz lerobot:", "cannot be written: it is there already"),
        ("demo.npz lerobot:demo.npz/walk", "lerobot:demo.npz/walk cannot be written"),
        ("none.npz lerobot:walk", "lerobot:walk cannot be written: there is no step"),
        ("demo.npz lerobot:walk --fps 0", "fps is 0; accepted: whole numbers from 1 up"),
        ("demo.npz other.npz --fps 20", "fps is 20, but only lerobot: data have timestamps"),
        ("demo.npz other.csv", "accepted: PATH.npz, minari:ns/name-v0, lerobot:FOLDER"),
        ("lerobot:walk other.npz", "lerobot:walk cannot be read: lerobot: data are only written"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    npz.save(tmp_path / "demo.npz", visited())
    npz.save(tmp_path / "none.npz", visited().take(0))
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "convert", *words.split()]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"need the package pyarrow: pip install 'foreplan\[data\]'"):
        names.save(f"lerobot:{tmp_path / 'walk'}", visited())
    assert not list(tmp_path.iterdir())
