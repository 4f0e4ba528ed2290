"""The authors' checkpoints: read without PyTorch and without running what they name, and equal in what they say."""

import io
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from parity.test_tdmpc2 import window

from foreplan.agents import tdmpc_official
from foreplan.core.errors import UsageError
from foreplan.data import torch_file
from foreplan.nn.dists import SquashedGaussian
from foreplan.run.imported import import_tdmpc2
from foreplan.run.loop import resume
from foreplan.run.saved import Saved

HERE = Path(__file__).parent
FILES = ["tdmpc2.pt", "tdmpc2_older.pt"]  # the two layouts, with the weights that tdmpc2.npz was made from
ENV = "probes:Drift"


@pytest.fixture
def golden() -> dict[str, np.ndarray]:
    with np.load(HERE / "tdmpc2.npz") as file:
        return dict(file)


@pytest.mark.parametrize("file", FILES)
def test_networks_agree(file: str, golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    saved = Saved.open(import_tdmpc2(HERE / file, ENV, tmp_path / "run"))
    env = saved._env(num_envs=1)
    it, batch = saved.learner(env), window(golden)
    action = batch.action[:, 0]
    z = jax.vmap(it.world.encode)(batch.obs[:, 0])
    policy = jax.vmap(lambda z: SquashedGaussian.of(it.policy(z)))(z)
    got = {
        "z": z,
        "next": jax.vmap(it.world.next)(z, action),
        "reward_logits": jax.vmap(it.world.reward_logits)(z, action),
        "q_logits": jax.vmap(it.world.q_logits)(z, action).swapaxes(0, 1),
        "pi_mean": jax.numpy.tanh(policy.mean),
        "pi_log_std": policy.log_std,
    }
    for name, value in got.items():
        np.testing.assert_allclose(value, golden[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_an_import_can_be_evaluated_and_trained_on(tmp_path: Path) -> None:
    out = import_tdmpc2(HERE / FILES[0], ENV, tmp_path / "run")
    assert len(Saved.open(out).evaluate(episodes=2).returns) == 2
    resume(out, steps=40)
    assert Saved.open(out).env_steps == 40


def weights() -> dict[str, np.ndarray]:
    return torch_file.read(HERE / FILES[0])


def without(name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in weights().items() if key != name}


@pytest.mark.parametrize(
    ("theirs", "complaint"),
    [
        (lambda: without("model._pi.1.bias"), "lacks _pi.1.bias"),
        (lambda: weights() | {"model._decoder.0.weight": np.zeros(3)}, "weights that TD-MPC2 does not: _decoder"),
        (lambda: weights() | {"model._task_emb.weight": np.zeros((3, 2))}, "many tasks"),
        (dict, "lacks _encoder.state"),
    ],
)
def test_other_checkpoints_are_refused(theirs, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        tdmpc_official.convert(theirs())


def test_checkpoints_of_another_environment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="made for 5 observations and 2 actions"):
        import_tdmpc2(HERE / FILES[0], "jax/pendulum", tmp_path / "run")
    with pytest.raises(UsageError, match="knows of no termination"):
        import_tdmpc2(HERE / FILES[0], "probes:EndingDrift", tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Evil:
    def __reduce__(self):
        return pickle.loads, (b"",)


def archive(path: Path, content: object) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(content))
    return path


def test_a_file_that_carries_code_is_refused_unrun(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names _?pickle\.loads, which is code"):
        torch_file.read(archive(tmp_path / "evil.pt", {"model": Evil()}))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = (HERE / FILES[0]).read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged"):
        torch_file.read(cut)
    short = tmp_path / "short.pt"
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(short, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(UsageError, match="storage 0 is not as long as it should be"):
        torch_file.read(short)
    with pytest.raises(UsageError, match="does not exist"):
        torch_file.read(tmp_path / "none.pt")


def test_a_tensor_may_not_reach_beyond_its_storage() -> None:
    storage = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(torch_file._tensor(storage, 1, (2, 2), (1, 2)), [[1, 3], [2, 4]])
    for offset, size, stride in [(3, (2, 2), (2, 1)), (-1, (1,), (1,)), (0, (2,), (-1,))]:
        with pytest.raises(pickle.UnpicklingError, match="beyond"):
            torch_file._tensor(storage, offset, size, stride)
