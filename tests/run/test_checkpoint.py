"""A checkpoint gives back what went in, or says that it cannot."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.run import checkpoint


class Part(eqx.Module):
    weight: jax.Array
    key: jax.Array


def tree():
    return {"a": [Part(jnp.arange(6.0).reshape(2, 3), jax.random.key(7)), jnp.array(True)], "b": jnp.uint32(5)}


def save(folder, step=100, keep=3, **more):
    part = {"learner": checkpoint.flatten(tree()), "clock": {"turns": step, **more}}
    return checkpoint.save(folder, step, part, keep)


def test_a_tree_comes_back_bit_for_bit(tmp_path) -> None:
    save(tmp_path)
    like = jax.eval_shape(tree)
    parts = checkpoint.load(checkpoint.newest_whole(tmp_path, pytest.fail))
    restored = checkpoint.unflatten(like, parts["learner"])
    assert sorted(parts["learner"]) == ["a/0/key", "a/0/weight", "a/1", "b"]
    assert jax.tree.structure(restored) == jax.tree.structure(tree())
    np.testing.assert_array_equal(restored["a"][0].weight, np.arange(6.0, dtype=np.float32).reshape(2, 3))
    assert jax.random.uniform(restored["a"][0].key) == jax.random.uniform(jax.random.key(7))
    assert restored["a"][1].dtype == bool
    assert restored["b"].dtype == np.uint32


def test_nested_arrays_and_json_come_back(tmp_path) -> None:
    state = {
        "rng": {"state": 2**127 + 3, "name": "PCG64"},
        "envs": {"0": {"qpos": np.array([1.5, np.nan]), "time": np.float64(0.1), "list": [np.array([1, 2]), None]}},
        "empty": np.zeros((0, 3), np.float32),
        "flag": True,
    }
    checkpoint.save(tmp_path, 1, {"env": state}, keep=1)
    found = checkpoint.load(tmp_path / "step-000000001", "env")["env"]
    assert found["rng"] == state["rng"]
    assert found["flag"] is True
    np.testing.assert_array_equal(found["envs"]["0"]["qpos"], [1.5, np.nan])
    assert found["envs"]["0"]["time"] == 0.1
    np.testing.assert_array_equal(found["envs"]["0"]["list"][0], [1, 2])
    assert found["empty"].shape == (0, 3)
    assert found["empty"].dtype == np.float32


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


DAMAGE = {
    "a bit flipped in an array": lambda path: flip(path / "learner.safetensors"),
    "a bit flipped in the state": lambda path: flip(path / "state.json"),
    "an array file cut short": lambda path: (path / "learner.safetensors").write_bytes(b"123"),
    "an array file gone": lambda path: (path / "learner.safetensors").unlink(),
    "the sums gone": lambda path: (path / "SHA256SUMS").unlink(),
    "the sums empty": lambda path: (path / "SHA256SUMS").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_and_the_last_whole_checkpoint_taken(tmp_path, damage) -> None:
    older, newer = save(tmp_path, 100), save(tmp_path, 200)
    damage(newer)
    said: list[str] = []
    assert checkpoint.newest_whole(tmp_path, said.append) == older
    assert len(said) == 1
    assert "step-000000200 is damaged" in said[0]
    assert checkpoint.newest_whole(tmp_path, pytest.fail) == older  # it was set aside, and is not met again


def test_no_whole_checkpoint_is_an_error(tmp_path) -> None:
    flip(save(tmp_path) / "learner.safetensors")
    with pytest.raises(UsageError, match="no whole checkpoint"):
        checkpoint.newest_whole(tmp_path, lambda line: None)


def test_a_save_that_was_cut_off_leaves_nothing_behind(tmp_path) -> None:
    whole = save(tmp_path, 100)
    (tmp_path / ".step-000000200.partial").mkdir()
    (tmp_path / ".step-000000200.partial" / "state.json").write_text("{")
    assert checkpoint.newest_whole(tmp_path, pytest.fail) == whole
    save(tmp_path, 200)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000100", "step-000000200"]


def test_the_newest_are_kept_and_the_same_step_is_replaced(tmp_path) -> None:
    for step in (100, 200, 1000, 30000):
        save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint.all_checkpoints(tmp_path)] == ["step-000001000", "step-000030000"]
    save(tmp_path, 30000, keep=2, updates=7)
    assert checkpoint.load(checkpoint.newest_whole(tmp_path, pytest.fail), "clock")["clock"]["updates"] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"c": jnp.zeros(2)}, "no 'c'"),
        (lambda t: t | {"b": jnp.zeros(2, jnp.uint32)}, r"'b' is uint32\[\], and this configuration needs uint32\[2\]"),
        (lambda t: t | {"b": jnp.float32(0)}, "'b' is uint32.*needs float32"),
    ],
)
def test_another_configuration_is_refused(change, message) -> None:
    with pytest.raises(UsageError, match=message):
        checkpoint.unflatten(jax.eval_shape(lambda: change(tree())), checkpoint.flatten(tree()))
