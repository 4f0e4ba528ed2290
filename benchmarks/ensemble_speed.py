"""Fitting an ensemble of dynamics as a share of the machine's own float32 matrix-product rate.

    python benchmarks/ensemble_speed.py [--json]

7 members, 4 hidden layers of 200, batch 256, as MBPO; a walker's 17 observations, 6 actions; reward and continuation
known, so that only the dynamics are fitted. Only the matrix products of the gradient steps are counted; sampling, Adam,
activations and the hold-out scores are not, so 100 % cannot be reached. The rate is that of a 2048 x 2048 product,
measured before and after every fit. The same steps by a plain `vmap` over the members stand beside it.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from foreplan.core.fitting import Fitting, Split, transitions
from foreplan.core.learning import descend
from foreplan.core.machine import keep_memory
from foreplan.core.replay import Replay, insert
from foreplan.core.types import Spec, Step
from foreplan.worlds.ensemble import EnsembleWorld, Member, Network
from foreplan.worlds.fitting import WorldFitting, fit_world, losses

SPEC = Spec(obs_shape=(17,), action_dim=6, terminates=False)
SIZE = Network()
STEPS, BATCH = 5000, 256
EPOCHS = 4
CONFIG = WorldFitting(Fitting(batch_size=BATCH, max_epochs=EPOCHS, patience=EPOCHS, hold_out=0.1))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def matrix_rate(size: int = 2048) -> float:
    """FLOP/s of a square float32 product."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    return 2 * size**3 / statistics.median(seconds(lambda: product(x, x)) for _ in range(5))


def flops_of_a_step() -> float:
    """The products of one gradient step of all members: forward, and twice that backward but for the inputs."""
    sizes = [SPEC.obs_shape[0] + SPEC.action_dim, *[SIZE.width] * SIZE.layers, 2 * SPEC.obs_shape[0]]
    products = [i * o for i, o in itertools.pairwise(sizes)]
    return 2.0 * BATCH * SIZE.members * (3 * sum(products) - products[0])


def data() -> Replay:
    rng, replay = np.random.default_rng(0), Replay.create(SPEC, STEPS)
    no, zero = np.zeros(1, bool), np.zeros(1, np.float32)
    for t in range(STEPS):
        obs, action = rng.normal(size=(1, 17)).astype(np.float32), rng.uniform(-1, 1, (1, 6)).astype(np.float32)
        replay = insert(replay, Step(obs, action, zero, no, no, 0.9 * obs, np.array([t // 50], np.int32)))
    return replay


@partial(jax.jit, static_argnums=2)
def by_vmap(world: EnsembleWorld, replay: Replay, steps: int, key: jax.Array) -> Any:
    """As many gradient steps, the members side by side."""
    rows, split, optimiser = transitions(replay), Split.of(replay, CONFIG.fitting), optax.adam(1e-3)

    def step(nets: Any, state: Any, key: jax.Array) -> Any:
        batch = jax.tree.map(lambda leaf: leaf[split.draw((BATCH,), key)], rows)

        def loss(nets: Any) -> Any:
            member = Member(nets, world.scaling)
            found = jax.vmap(partial(losses, member, jnp.ones(2)))(batch)
            return jnp.mean(found["dynamics"]), None

        _, nets, state = descend(loss, nets, optimiser, state)
        return nets, state

    def once(carry: tuple[Any, Any], key: jax.Array) -> tuple[Any, None]:
        nets, states = carry
        return jax.vmap(step)(nets, states, jax.random.split(key, SIZE.members)), None

    begin = world.nets, jax.vmap(optimiser.init)(world.nets)
    return jax.lax.scan(once, begin, jax.random.split(key, steps))[0]


def measure(repeats: int = 5) -> dict[str, float]:
    key, replay = jax.random.key(0), data()
    world = EnsembleWorld.create(SPEC, SIZE, key, reward=False)
    steps = EPOCHS * -(-int(Split.of(replay, CONFIG.fitting).num_train) // BATCH)
    calls = {"fit": lambda: fit_world(world, replay, CONFIG, key), "vmap": lambda: by_vmap(world, replay, steps, key)}
    shares: dict[str, list[float]] = {name: [] for name in calls}
    rates = []
    for call in calls.values():
        jax.block_until_ready(call())  # compile
    for _ in range(repeats):
        for name, call in calls.items():
            before = matrix_rate()
            rate = flops_of_a_step() * steps / seconds(call)
            rates += [before, matrix_rate()]
            shares[name].append(rate / statistics.mean(rates[-2:]))
    return {"matrix_gflops": statistics.median(rates) / 1e9} | {
        f"{name}_share": statistics.median(values) for name, values in shares.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    keep_memory()  # as the command line does
    found = measure()
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    print(f"matrix product {found['matrix_gflops']:.0f} GFLOP/s")
    print(f"fit, hold-out scores included: {found['fit_share']:.0%} of it")
    print(f"the gradient steps alone, by vmap: {found['vmap_share']:.0%} of it")


if __name__ == "__main__":
    main()
