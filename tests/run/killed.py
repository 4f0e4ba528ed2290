"""A run in a process of its own, which a test may kill: begins the run in the directory given, or continues it."""

import sys
from pathlib import Path

from toys import Noting

from foreplan.run.loop import resume, train
from foreplan.run.settings import Settings
from foreplan.run.signals import Interrupted

SETTINGS = Settings(
    "toys:slow",
    asynchronous="no",
    steps=1600,
    num_envs=2,
    log_every=100,
    eval_every=300,
    eval_episodes=2,
    save_every=140,
    buffer=500,
)

if __name__ == "__main__":
    out = Path(sys.argv[1])
    try:
        resume(out) if (out / "config.json").exists() else train(Noting(random_decisions=200), SETTINGS, out)
    except Interrupted as stop:
        sys.exit(128 + stop.signal)
