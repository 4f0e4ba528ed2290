"""A latent world from recorded data alone: on a linear system."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cases import TD_MPC2
from test_parts import A, B, linear, points

from foreplan.cli import main
from foreplan.core.errors import UsageError
from foreplan.data import npz
from foreplan.envs import names
from foreplan.run.latent import CHUNK, fit_latent
from foreplan.run.saved import Saved


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_latent_world_is_fitted_by_consistency_and_planned_in(tmp_path: Path) -> None:
    """It foretells the latents of states that it has not seen, and what it has become is a run like any other."""
    said: list[str] = []
    data, out = linear(env="toys:walk"), tmp_path / "run"
    fit_latent(TD_MPC2, data, "linear", out, updates=4 * CHUNK, hold_out=0.2, seed=0, say=said.append)
    records = lines(out)
    assert [record["updates"] for record in records] == [CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK]
    assert records[-1]["held_out_loss"] < 1.2 * records[-1]["trained_on_loss"]
    assert len(said) == 4
    assert said[-1].startswith("1,000 updates, joint loss")
    run = Saved.open(out)
    assert run.env_steps == 0
    assert np.isfinite(run.evaluate(episodes=1).mean)
    with closing(names.make("toys:walk")) as env:
        world: Any = run.learner(env).world
    x, a = points(), np.random.default_rng(2).uniform(-1, 1, (100, 1)).astype(np.float32)
    now, then = (jax.vmap(world.encode)(obs) for obs in (x, (x @ A.T + B * a).astype(np.float32)))
    foretold = jax.vmap(world.next)(now, a)
    print(float(np.mean((foretold - then) ** 2) / np.mean((now - then) ** 2)))
    assert np.mean((foretold - then) ** 2) < 0.1 * np.mean((now - then) ** 2)


def test_what_holds_no_latent_world_is_refused(tmp_path: Path) -> None:
    def fit(data, out: str = "run", updates: int = CHUNK):
        return fit_latent(TD_MPC2, data, "linear", tmp_path / out, updates=updates, hold_out=0.1, seed=0)

    with pytest.raises(UsageError, match="linear names no environment"):
        fit(linear(2))
    data = linear(2, env="toys:walk")
    with pytest.raises(UsageError, match="linear holds no rewards"):
        fit(replace(data, about=replace(data.about, rewards=False)))
    with pytest.raises(UsageError, match="updates is 10; accepted"):
        fit(data, updates=10)
    with pytest.raises(UsageError, match="observations of size 2; jax/pendulum has 3"):
        fit(linear(2, env="jax/pendulum"))
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there exists; choose another"):
        fit(data, out="there")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz.save(tmp_path / "linear.npz", linear(20, env="toys:walk"))
    out = tmp_path / "run"
    fit = ["fit", str(tmp_path / "linear.npz"), "--latent", "nano", "--updates", str(CHUNK), "--out", str(out)]
    assert main(fit) == 0
    assert f"plan in it with: foreplan plan toys:walk --model {out}" in capsys.readouterr().out
    assert (out / "plots" / "losses.png").is_file()
    assert not (out / "plots" / "learning_curve.png").exists()  # nothing was earned yet
    assert main(["plan", "toys:walk", "--model", str(out), "--out", str(tmp_path / "plan")]) == 0
    assert main([*fit[:3], "huge", "--out", str(tmp_path / "other")]) != 0
