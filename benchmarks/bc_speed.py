"""How long an epoch of BC takes: 20k transitions of 17 observations and 6 actions, batch 256, two layers of 256.

`share` is the rate of its products, (2 forward + 4 backward) operations a weight and example, as a share of the rate at
which the same machine multiplies float32 matrices of 2048 x 2048, measured in turn with it. `--imitation PYTHON` times
an epoch of imitation in turns, too, by a Python with imitation 1.0.1, gymnasium 0.29.1 and stable-baselines3 2.2.1.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

NUMBER, EPOCHS = 20_000, 10


def imitations() -> float:
    """Seconds of an epoch of imitation's BC, the best of three, by whatever Python runs this."""
    sys.path.pop(0)  # where another imitation.py lies
    import gymnasium
    from imitation.algorithms import bc  # type: ignore[import-not-found]
    from imitation.data.types import Transitions  # type: ignore[import-not-found]
    from stable_baselines3.common.policies import ActorCriticPolicy

    random = np.random.default_rng(0)
    obs = random.normal(size=(NUMBER, 17)).astype(np.float32)
    acts = np.tanh(obs @ random.normal(size=(17, 6)).astype(np.float32))
    steps = Transitions(obs=obs, acts=acts, infos=np.array([{}] * NUMBER), next_obs=obs, dones=np.zeros(NUMBER, bool))
    obs_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)
    policy = ActorCriticPolicy(obs_space, action_space, lambda _: 1e-3, net_arch=[256, 256])
    spaces = {"observation_space": obs_space, "action_space": action_space}
    trainer = bc.BC(**spaces, rng=random, demonstrations=steps, policy=policy, batch_size=256)
    spent = []
    for _ in range(4):
        begin = time.perf_counter()
        trainer.train(n_epochs=1, progress_bar=False, log_interval=10**9)
        spent.append(time.perf_counter() - begin)
    return min(spent[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imitation", type=Path, help="a Python that has imitation 1.0: timed in turns with ours")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    print(json.dumps(imitations() if options.peer else ours(options.imitation)))


def ours(peer: Path | None) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from foreplan.agents.bc import BC
    from foreplan.core.fitting import Fitting
    from foreplan.core.replay import Replay
    from foreplan.core.spec import Spec

    spec = Spec(obs_shape=(17,), action_dim=6)
    agent = BC(fitting=Fitting(max_epochs=EPOCHS, patience=EPOCHS + 1, hold_out=0.0, max_held=256))
    random = np.random.default_rng(0)
    obs = random.normal(size=(NUMBER, 1, 17)).astype(np.float32)
    label = np.tanh(obs @ random.normal(size=(17, 6)).astype(np.float32))
    replay = Replay.create(spec, NUMBER, agent.extras(spec))
    extras = {"label": jnp.asarray(label), "labelled": jnp.ones((NUMBER, 1), jnp.bool_)}
    episode = jnp.arange(NUMBER, dtype=jnp.int32)[:, None] // 1000
    steps = replace(replay.steps, obs=jnp.asarray(obs), episode=episode, extras=extras)
    replay, learner = replace(replay, steps=steps, size=jnp.int32(NUMBER)), agent.init(spec, jax.random.key(0))
    matrix = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready((product(matrix), agent.refit(learner, replay, jax.random.key(0))))
    products, epochs, theirs = [], [], []
    for turn in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(product(matrix))
        products.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        jax.block_until_ready(agent.refit(learner, replay, jax.random.key(turn)))
        epochs.append((time.perf_counter() - begin) / EPOCHS)
        if peer is not None:
            said = subprocess.run([peer, __file__, "--peer"], capture_output=True, text=True, check=True).stdout
            theirs.append(float(said.splitlines()[-1]))
    rate = 2 * 2048**3 / min(products)
    work = 6 * (17 * 256 + 256 * 256 + 256 * 6) * NUMBER
    found = {
        "epoch_s": min(epochs),
        "epochs_s": epochs,
        "product_gflops": rate / 1e9,
        "share": work / min(epochs) / rate,
    }
    return found | ({"imitation_s": min(theirs), "imitations_s": theirs} if theirs else {})


if __name__ == "__main__":
    main()
