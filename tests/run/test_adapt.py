"""The UTD ratio that adapts itself: which way it turns, what is owed, and what is never trained on."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from cases import MODEL_BASED, PLAIN_SAC
from probes import counter
from test_loop import SHORT, lines
from toys import Toy

from foreplan.core.errors import UsageError
from foreplan.core.replay import draw, held_out
from foreplan.run.adapt import Adapt
from foreplan.run.clock import Clock
from foreplan.run.loop import resume, train

KEY = jax.random.key(0)
ADAPT = Adapt(on=True, utd_min=0.5, utd_max=4.0, utd_factor=2.0, utd_every=20, hold_out=0.3)


def test_it_falls_where_the_gap_grows_and_stays_within_its_bounds() -> None:
    """By hand: the first gap only sets the mark, which then moves halfway to each new one."""
    utd, mark = ADAPT.adapted(1.0, 1.5, None)
    assert (utd, mark) == (1.0, 1.5)
    utd, mark = ADAPT.adapted(utd, 2.5, mark)
    assert (utd, mark) == (0.5, 2.0)
    utd, mark = ADAPT.adapted(utd, 2.2, mark)  # still above the mark, and at the least already
    assert utd == 0.5
    utds = []
    for _ in range(4):
        utd, mark = ADAPT.adapted(utd, 0.1, mark)
        utds.append(utd)
    assert utds == [1.0, 2.0, 4.0, 4.0]
    assert ADAPT.adapted(2.0, float("nan"), mark) == (2.0, mark)


def test_what_was_owed_before_a_change_stays_owed() -> None:
    clock = Clock(num_envs=2, action_repeat=1, utd=0.5)
    clock.turns = 10
    assert clock.owed == 10
    clock.change_utd(3.0)
    assert clock.owed == 10
    clock.turns, clock.updates = 12, 4
    assert clock.owed == 10 + 2 * 2 * 3 - 4


@pytest.mark.parametrize("held", [False, True])
def test_batches_to_train_on_begin_in_no_episode_that_is_held_out(held: bool) -> None:
    ends = (np.arange(200) % 5 == 4).astype(int)[:, None]
    replay, _ = counter(200, 1, 200, ends)
    replay = replace(replay, hold_out=0.3)
    window = jax.jit(partial(draw, held=held), static_argnums=(1, 2))(replay, 2000, 2, KEY)
    episodes = np.asarray(window.obs[:, 0, 1], np.int32)
    kept_apart = np.asarray(held_out(jax.numpy.arange(40, dtype=np.int32), 0.3))
    assert set(episodes) == set(np.flatnonzero(kept_apart == held))  # all of the one kind, none of the other


class Overfits(Toy):
    """Says that the loss on held-out episodes is e to the updates made so far, that on the others 1."""

    def hold_out_losses(self, learner, replay, key):
        return jax.numpy.exp(learner.updates / 100), jax.numpy.ones(())


def test_a_run_turns_the_ratio_down_while_it_overfits(tmp_path) -> None:
    train(Overfits(utd=4.0), replace(SHORT, num_envs=1, adapt=ADAPT, eval_every=400), tmp_path / "run")
    records = lines(tmp_path / "run")
    assert records[0]["utd_asked"] == 4.0
    assert records[-1]["utd_asked"] == 0.5
    assert records[-1]["held_out_loss"] > records[-1]["trained_on_loss"] == 1.0
    made = [b["updates"] - a["updates"] for a, b in zip(records[-2:], records[-1:], strict=False)]
    assert made == [pytest.approx(25, abs=2)]  # 50 decisions at a ratio of a half


@pytest.mark.slow
@pytest.mark.parametrize("agent", [PLAIN_SAC, MODEL_BASED], ids=["sac", "mbpo"])
def test_resuming_continues_bit_for_bit(agent, tmp_path) -> None:
    settings = replace(SHORT, env="jax/pendulum", steps=90, num_envs=1, buffer=50, adapt=ADAPT)
    settings = replace(settings, log_every=10, eval_every=90)
    train(agent, settings, tmp_path / "whole")
    train(agent, replace(settings, steps=50), tmp_path / "parts")
    resume(tmp_path / "parts", steps=90)
    whole, parts = lines(tmp_path / "whole"), lines(tmp_path / "parts")
    assert parts == whole
    assert len({record["utd_asked"] for record in whole}) > 1


def test_what_cannot_be_adapted_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(UsageError, match="Toy has no loss on held-out episodes"):
        train(Toy(), replace(SHORT, adapt=ADAPT), tmp_path / "run")
    with pytest.raises(UsageError, match="utd is 1001"):
        train(Toy(utd=1001.0), SHORT, tmp_path / "run")
    with pytest.raises(UsageError, match="the seed steps are 0"):
        train(Toy(random_decisions=0), SHORT, tmp_path / "run")
    with pytest.raises(UsageError, match=r"utd-min is 2\.0 and utd-max 1\.0"):
        Adapt(utd_min=2.0, utd_max=1.0)
    assert not (tmp_path / "run").exists()
