"""A run that is killed and resumed writes what an uninterrupted twin writes, bit for bit."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_loop import lines

from foreplan.run import checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts killed.py on a run directory; programs are compiled once for all the processes."""
    cache = tmp_path_factory.mktemp("cache")
    environment = os.environ | {
        "PYTHONPATH": str(HERE),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def begin(out):
        return subprocess.Popen(
            [sys.executable, HERE / "killed.py", out], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    return begin


@pytest.fixture(scope="module")
def twin(start, tmp_path_factory):
    out = tmp_path_factory.mktemp("twin") / "run"
    output, _ = (process := start(out)).communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    return out


def wait_for(process, out, count):
    """Until the log has `count` lines, or the process has ended."""
    path = out / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= count):
        time.sleep(0.005)


def same(out, twin):
    assert lines(out) == lines(twin)
    assert lines(out, "eval") == lines(twin, "eval")
    a, b = (checkpoint.load(checkpoint.newest_whole(run / "checkpoints", pytest.fail)) for run in (out, twin))
    for part in ("learner", "memory", "timestep", "replay"):
        for name in b[part]:
            np.testing.assert_array_equal(a[part][name], b[part][name], err_msg=f"{part} {name}")
    assert a["clock"]["updates"] == b["clock"]["updates"]


def test_killed_at_random_moments(start, twin, tmp_path) -> None:
    """SIGKILL: nothing is said, nothing is finished; also while a checkpoint or a line of the log is written."""
    out, dice = tmp_path / "run", random.Random(0)
    for kill in itertools.count():
        process = start(out)
        written = len(lines(out)) if out.exists() else 0
        wait_for(process, out, dice.randrange(max(1, written - 1), 15) if kill < 3 else 99)
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
    assert kill >= 2  # it was killed for real, more than once
    same(out, twin)


def test_asked_to_stop_and_damaged(start, twin, tmp_path) -> None:
    """SIGINT and SIGTERM: the run saves itself at once and goes on from there; a damaged checkpoint costs only time."""
    out = tmp_path / "run"
    for number, count in ((signal.SIGINT, 5), (signal.SIGTERM, 10)):
        process = start(out)
        wait_for(process, out, count)
        process.send_signal(number)
        process.communicate()
        assert process.returncode == 128 + number
        newest = checkpoint.newest_whole(out / "checkpoints", pytest.fail)
        assert checkpoint.load(newest, "clock")["clock"]["turns"] * 4 >= lines(out)[-1]["env_steps"] >= count * 100
    (newest / "replay.safetensors").write_bytes(b"not what it was")
    output, _ = start(out).communicate()
    assert f"{newest.name} is damaged" in output.decode()
    assert "continuing from" in output.decode()
    same(out, twin)
