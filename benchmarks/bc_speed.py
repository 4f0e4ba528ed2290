"""How long an epoch of BC takes: 20k transitions of 17 observations and 6 actions, batch 256, two layers of 256.

`share` is the rate of its products, (2 forward + 4 backward) operations a weight and example, as a share of the rate at
which the same machine multiplies float32 matrices of 2048 x 2048, measured in turn with it.
"""

import json
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents.bc import BC
from foreplan.core.fitting import Fitting
from foreplan.core.replay import Replay
from foreplan.core.spec import Spec

SPEC, NUMBER, EPOCHS = Spec(obs_shape=(17,), action_dim=6), 20_000, 10


def data(agent: BC) -> Replay:
    random = np.random.default_rng(0)
    obs = random.normal(size=(NUMBER, 1, 17)).astype(np.float32)
    label = np.tanh(obs @ random.normal(size=(17, 6)).astype(np.float32))
    empty = Replay.create(SPEC, NUMBER, agent.extras(SPEC))
    extras = {"label": jnp.asarray(label), "labelled": jnp.ones((NUMBER, 1), jnp.bool_)}
    episode = jnp.arange(NUMBER, dtype=jnp.int32)[:, None] // 1000
    steps = replace(empty.steps, obs=jnp.asarray(obs), episode=episode, extras=extras)
    return replace(empty, steps=steps, size=jnp.int32(NUMBER))


def main() -> None:
    agent = BC(fitting=Fitting(max_epochs=EPOCHS, patience=EPOCHS + 1, max_held=256))
    replay, learner = data(agent), agent.init(SPEC, jax.random.key(0))
    matrix = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready((product(matrix), agent.refit(learner, replay, jax.random.key(0))))
    products, epochs = [], []
    for turn in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(product(matrix))
        products.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        jax.block_until_ready(agent.refit(learner, replay, jax.random.key(turn)))
        epochs.append((time.perf_counter() - begin) / EPOCHS)
    rate = 2 * 2048**3 / min(products)
    work = 6 * (17 * 256 + 256 * 256 + 256 * 6) * NUMBER * 0.9  # a tenth is held out
    found = {"epoch_s": min(epochs), "epochs_s": epochs, "product_gflops": rate / 1e9}
    print(json.dumps(found | {"share": work / min(epochs) / rate, "imitation_s": 0.6}))


if __name__ == "__main__":
    main()
