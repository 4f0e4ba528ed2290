"""Data sets on the disk: what goes in comes out, and what is broken is named by file, episode and field."""

import dataclasses

import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.core.spec import Spec
from foreplan.data.dataset import About, Dataset, Source, demonstration, faults, join
from foreplan.data.npz import REQUIRED, load, save

ABOUT = About("gym/Somewhere-v0", action_repeat=1)


def recorded(episodes: int = 3, length: int = 4, seed: int = 0, about: About = ABOUT) -> Dataset:
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(episodes, length + 1, 3)).astype(np.float32)
    steps = episodes * length
    last = np.arange(steps) % length == length - 1
    return demonstration(
        about,
        obs=obs[:, :-1].reshape(steps, 3),
        next_obs=obs[:, 1:].reshape(steps, 3),
        action=rng.uniform(-1, 1, (steps, 2)),
        reward=np.arange(steps),
        terminated=last & (np.arange(steps) < length),
        truncated=last & (np.arange(steps) >= length),
        episode=np.repeat(np.arange(episodes), length),
    )


def same(a: Dataset, b: Dataset) -> bool:
    return a.about == b.about and all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)


def test_it_comes_back(tmp_path) -> None:
    data = recorded()
    back = load(save(tmp_path / "demo.npz", data))
    assert same(back, data)
    assert [array.dtype for array in back.arrays.values()] == [array.dtype for array in data.arrays.values()]
    assert data.returns.tolist() == [6.0, 22.0, 38.0]


def test_some_of_the_episodes_are_taken_whole() -> None:
    """Rewards are the rows' numbers; episodes have four."""
    data = recorded(5)
    assert data.take(every=2).reward.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    assert data.take(2, every=2).episode.tolist() == [0] * 4 + [2] * 4
    assert len(data.take(0)) == 0
    assert same(data.take(), data)


def test_plain_arrays_are_enough(tmp_path) -> None:
    plain = {name: array for name, array in recorded().arrays.items() if name in REQUIRED}
    np.savez(tmp_path / "plain.npz", **plain)
    back = load(tmp_path / "plain.npz")
    assert back.labelled.all()
    assert not back.intervention.any()
    np.testing.assert_array_equal(back.label, back.action)
    assert back.about.sources == (Source("file:plain.npz"),)


def test_rounds_are_joined_with_their_provenance(tmp_path) -> None:
    by_anna = dataclasses.replace(ABOUT, sources=(Source("human:anna", "round-000"),))
    first, second = recorded(2), recorded(3, seed=1, about=by_anna)
    save(tmp_path / "round-000" / "steps.npz", first)
    save(tmp_path / "round-001" / "steps.npz", second)
    both = load(tmp_path)
    assert same(both, join([first, second]))
    assert [number for number, _ in both.episodes()] == [0, 1, 2, 3, 4]
    assert [source.who for source in both.about.sources] == ["demonstration", "human:anna"]
    assert both.source.tolist() == [0] * 8 + [1] * 12
    np.testing.assert_array_equal(both.returns, [*first.returns, *second.returns])


def broken(name: str, step: int, value: object) -> Dataset:
    data = recorded()
    array = getattr(data, name).copy()
    array[step] = value
    return dataclasses.replace(data, **{name: array})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (broken("obs", 5, np.nan), "episode 1, obs: step 1 is not finite"),
        (broken("reward", 11, np.inf), "episode 2, reward: step 3 is not finite"),
        (broken("action", 0, 1.5), r"episode 0, action: step 0 leaves \[-1, 1\]"),
        (broken("next_obs", 6, 0.0), "episode 1, next_obs: step 2 is not followed by the observation it led to"),
        (broken("terminated", 1, True), "episode 0, terminated: step 1 ends the episode, which goes on"),
        (broken("episode", 11, 0), "episode 0, episode: its steps do not stand together"),
        (broken("source", 3, 4), "episode 0, source: a label's provenance is not among the sources"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, message) -> None:
    assert faults(recorded()) == []
    with pytest.raises(UsageError, match=rf"demo.npz, {message}"):
        load(save(tmp_path / "demo.npz", data))
    assert len(load(tmp_path / "demo.npz", check=False)) == 12


def test_labels_that_are_not_there_need_no_number(tmp_path) -> None:
    data = recorded()
    data = dataclasses.replace(data, label=data.label.copy())
    data.labelled[3], data.source[3], data.label[3] = False, -1, 5.0
    assert faults(data) == []


def test_discrete_actions_must_be_one_hot(tmp_path) -> None:
    data = recorded(about=dataclasses.replace(ABOUT, discrete=True))
    assert str(faults(data)[0]) == "episode 0, action: step 0 is not one-hot"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"reward": None}, "has no 'reward'"),
        ({"rewards": np.zeros(12)}, "has an array 'rewards', which means nothing here"),
        ({"reward": np.zeros(11)}, r"obs: its shape is \[12, 3\]; \[11, ...\] is needed"),
        ({"obs": np.zeros((12, 4))}, "obs and next_obs"),
        ({"terminated": np.zeros(12)}, "terminated: its type is float64; bool is needed"),
        ({"about": np.array("{")}, "about"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, message) -> None:
    whole = {name: array for name, array in (recorded().arrays | arrays).items() if array is not None}
    np.savez(tmp_path / "demo.npz", **whole)
    with pytest.raises(UsageError, match=f"demo.npz.*{message}"):
        load(tmp_path / "demo.npz")


def test_what_is_no_data_is_refused(tmp_path) -> None:
    (tmp_path / "torn.npz").write_bytes(save(tmp_path / "demo.npz", recorded()).read_bytes()[:300])
    for path, message in (("torn.npz", "cannot be read"), ("nowhere.npz", "cannot be read"), ("", "holds no data")):
        with pytest.raises(UsageError, match=message):
            load(tmp_path / path)


def test_another_space_is_named(tmp_path) -> None:
    data = recorded()
    data.check_spec(Spec((3,), 2), "gym/Here-v0", "demo.npz")
    for spec, message in (
        (Spec((4,), 2), "demo.npz of gym/Somewhere-v0 has observations of size 3; gym/Here-v0 has 4"),
        (Spec((3,), 1), "actions of size 2; gym/Here-v0 has 1"),
        (Spec((3,), 2, discrete=True), "discrete actions: False; gym/Here-v0 has True"),
        (Spec((3,), 2, action_repeat=2), "action repeat 1; here it is 2"),
    ):
        with pytest.raises(UsageError, match=message):
            data.check_spec(spec, "gym/Here-v0", "demo.npz")
