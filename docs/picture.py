"""The picture of the README: how a run learned, and what its final policy looks like.

python docs/picture.py RUN docs/assets/cartpole-swingup.png
"""

import json
import sys
from pathlib import Path

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np

FRAMES = 6


def main(run: Path, out: Path) -> None:
    evaluations = [json.loads(line) for line in (run / "eval.jsonl").read_text().splitlines()]
    film = sorted((run / "videos").glob("*.mp4"))[-1]
    frames = imageio.imread(film)
    moments = np.linspace(0, min(len(frames) - 1, 240), FRAMES).astype(int)
    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    grid = figure.add_gridspec(2, 2 + FRAMES // 2)
    curve = figure.add_subplot(grid[:, :2])
    steps = [e["env_steps"] for e in evaluations]
    curve.plot([0, *steps], [0, *(np.mean(e["returns"]) for e in evaluations)], "o-", color="#1f5fae")
    curve.set(xlabel="environment steps", ylabel="return of an episode", ylim=(0, 1000))
    curve.grid(alpha=0.3)
    for i, moment in enumerate(moments):
        panel = figure.add_subplot(grid[i // (FRAMES // 2), 2 + i % (FRAMES // 2)])
        panel.imshow(frames[moment])
        panel.set_title(f"decision {moment}", fontsize=8)
        panel.axis("off")
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
