"""Runs with a user's termination function: what is said of it, what is resumed, and what is begun from."""

from dataclasses import replace
from typing import Any

import jax
import pytest
from cases import PLAIN_MPC
from test_loop import SHORT, lines
from toys import Listening

from foreplan.agents.mbmpc import MBMPC
from foreplan.agents.pets import PETS
from foreplan.core.errors import UsageError
from foreplan.core.types import Spec
from foreplan.planners.random_shooting import RandomShooting
from foreplan.run import checkpoint, warm
from foreplan.run.agreement import compare
from foreplan.run.loop import resume, train
from foreplan.run.settings import Warm, decode, encode, write_config
from foreplan.worlds.ensemble import EnsembleWorld

SETTINGS = replace(
    SHORT, steps=120, num_envs=1, log_every=20, eval_every=120, eval_episodes=1, save_every=80, buffer=40
)
AGENT = MBMPC(
    RandomShooting(horizon=2, num_samples=8),
    replace(PLAIN_MPC.network, layers=1, width=8, head_layers=1, head_width=8),
    replace(PLAIN_MPC.fitting, targets="delta"),
    every=10,
    min_seed_steps=20,
)
WRONG = replace(AGENT, terminated="ends:near")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A run with a wrong function that was never stopped, and what it said of that."""
    heard = Listening()
    out = train(WRONG, SETTINGS, tmp_path_factory.mktemp("twin") / "run", display=heard)
    return out, [line for line in heard.said if "ends:near" in line]


def verdict(world: EnsembleWorld) -> tuple[bool, bool]:
    assert world.ends is not None
    return bool(world.ends.asked), bool(world.ends.refuted)


init = jax.jit(MBMPC.init, static_argnums=(0, 1))


def begun(agent: MBMPC, run) -> EnsembleWorld:
    spec = Spec(obs_shape=(2,), action_dim=1)
    learner: Any = warm.learner(agent, Warm(init=str(run)), spec, init(agent, spec, jax.random.key(1)))
    return learner.world


def test_a_wrong_function_is_said_once_and_the_run_goes_on(twin) -> None:
    out, (line,) = twin
    assert line.startswith("terminated ends:near is wrong about ")
    assert line.endswith("invented): the learned continuation counts instead")
    used = [record["known_end_used"] for record in lines(out) if "known_end_used" in record]
    assert used == [0.0] * 5  # from the first fit on, at every tenth decision


def test_a_run_that_is_resumed_has_not_forgotten(twin, tmp_path) -> None:
    """Bit for bit the run that was never stopped, and nothing is said again."""
    out, again = train(WRONG, replace(SETTINGS, steps=80), tmp_path / "run", display=Listening()), Listening()
    resume(out, steps=120, display=again)
    assert not any("ends:near" in line for line in again.said)
    assert lines(out)[-1] == lines(twin[0])[-1]


def test_what_a_run_remembers_is_data_to_check_with(twin) -> None:
    (ends,), told = compare("toys:walk", str(twin[0]), {"terminated": "ends:beyond"})
    assert ends.ok
    assert told["terminated"]["transitions"] == 40
    (ends,), told = compare("toys:walk", str(twin[0]), {"terminated": "ends:near"})
    assert not ends.ok
    share = [record["known_end_error"] for record in lines(twin[0]) if "known_end_error" in record][-1]
    assert 0.0 < share < 1.0
    assert told["terminated"]["wrong"] == told["terminated"]["missed"] + told["terminated"]["invented"] > 0


def test_a_run_that_begins_from_another_verifies_its_own_function(twin, tmp_path) -> None:
    """The other may have had another function, or none: its verdict is not taken over, its networks are."""
    stored = checkpoint.load(checkpoint.newest_whole(twin[0] / "checkpoints", pytest.fail), "learner")["learner"]
    assert (bool(stored["world/ends/asked"]), bool(stored["world/ends/refuted"])) == (True, True)
    learned = {name: array for name, array in stored.items() if not name.startswith("world/ends/")}
    write_config(tmp_path, AGENT, SETTINGS, "mbmpc")
    checkpoint.save(tmp_path / checkpoint.FOLDER, 120, {"learner": learned}, 1)
    for run in (twin[0], tmp_path):
        world = begun(replace(AGENT, terminated="ends:beyond"), run)
        assert verdict(world) == (False, False)
        assert int(world.fits) == int(stored["world/fits"]) == 5
    assert begun(AGENT, twin[0]).ends is None


def test_a_function_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"terminated ends:number gives \(\) float32; accepted: one bool"):
        train(replace(AGENT, terminated="ends:number"), SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_older_run_directories_are_still_read() -> None:
    config = encode(PETS())
    config["continuation"] = config.pop("terminated")
    assert decode(config) == PETS()
    assert decode(encode(WRONG)) == WRONG
