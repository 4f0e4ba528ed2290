"""One planned action and one update of TD-MPC2 as a share of the machine's own float32 matrix-product rate.

    python benchmarks/tdmpc2_speed.py [nano 1m 5m ...] [--json]

At the reference's settings: 512 samples x 6 iterations, horizon 3, batch 256; a walker's 24 observations, 6 actions.
Only the matrix products that the algorithm needs are counted (two Q heads in the plan, no gradient where none is
used), so 100 % cannot be reached. The rate is that of a 2048 x 2048 product, measured between the others.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents.tdmpc import TDMPC2
from foreplan.agents.tdmpc_presets import SIZES
from foreplan.core.machine import keep_memory
from foreplan.core.replay import Replay, insert
from foreplan.core.types import Spec, Step, TimeStep
from foreplan.planners.mppi import MPPI

SPEC = Spec(obs_shape=(24,), action_dim=6, episode_length=500, terminates=False)
REFERENCE_PLANNER = MPPI(horizon=3, num_samples=512, num_proposals=24, num_elites=64, iterations=6)


def seconds(call: Callable[[], object], repeats: int) -> float:
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_rate(size: int = 2048) -> float:
    """FLOP/s of a square float32 product."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / seconds(lambda: product(x, x), 10)


def flops(agent: TDMPC2) -> tuple[float, float]:
    """(of one plan, of one update): the products alone, two operations a multiply-add."""
    (obs,), action, net, plan = SPEC.obs_shape, SPEC.action_dim, agent.network, agent.planner

    def mlp(inputs: int, outputs: int) -> int:
        return inputs * net.width + (net.layers - 1) * net.width**2 + net.width * outputs

    encode = obs * net.encoder_width + (net.encoder_layers - 2) * net.encoder_width**2 + net.encoder_width * net.latent
    dynamics, head = mlp(net.latent + action, net.latent), mlp(net.latent + action, agent.two_hot.bins)
    policy, horizon, batch = mlp(net.latent, 2 * action), plan.horizon, agent.batch_size
    ends = 1 if agent.critic.depths == "last" else horizon  # of a plan, where it is cut and valued
    candidates = plan.iterations * plan.num_samples * (horizon * (dynamics + head) + ends * (policy + 2 * head))
    proposals = plan.num_proposals * (horizon * policy + (horizon - 1) * dynamics)
    targets = batch * horizon * (encode + policy + 2 * head)
    world = 3 * batch * (encode + horizon * (dynamics + head + net.heads * head))
    improve = batch * (horizon + 1) * (3 * policy + 2 * 2 * head)
    return 2.0 * (encode + candidates + proposals), 2.0 * (targets + world + improve)


def recorded(extras: Mapping[str, jax.Array] = MappingProxyType({})) -> tuple[Replay, TimeStep]:
    """A thousand decisions at random, each with these extras, and an observation to act on."""
    rng = np.random.default_rng(0)
    zero, no = np.zeros(1, np.float32), np.zeros(1, bool)
    timestep = TimeStep(rng.normal(size=(1, 24)).astype(np.float32), zero, no, no, no)
    replay = Replay.create(SPEC, 10_000, extras)
    for _ in range(1000):
        obs, action = rng.normal(size=(1, 24)).astype(np.float32), rng.uniform(-1, 1, (1, 6)).astype(np.float32)
        replay = insert(replay, Step(obs, action, zero, no, no, obs, np.zeros(1, np.int32), extras=dict(extras)))
    return replay, timestep


def measure(size: str) -> dict[str, float | str]:
    agent = replace(SIZES[size], planner=REFERENCE_PLANNER, batch_size=256)
    key = jax.random.key(0)
    learner, memory = agent.init(SPEC, key), agent.memory(SPEC)
    replay, timestep = recorded()

    def update() -> object:
        nonlocal learner
        learner, metrics = agent.learn(learner, replay, key, 1)
        return metrics

    plan_flops, update_flops = flops(agent)
    rates = [matrix_rate()]
    plan_seconds = seconds(lambda: agent.act(learner, timestep, memory, key, True)[0], 20)
    rates.append(matrix_rate())
    update_seconds = seconds(update, 20)
    rates.append(matrix_rate())
    rate = statistics.median(rates)
    return {
        "size": size,
        "matrix_gflops": rate / 1e9,
        "plan_ms": plan_seconds * 1e3,
        "plan_share": plan_flops / plan_seconds / rate,
        "update_ms": update_seconds * 1e3,
        "update_share": update_flops / update_seconds / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["nano", "1m", "5m"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_memory()  # as the command line does
    rows = [measure(size) for size in options.sizes]
    if options.json:
        print(json.dumps(rows))
        return
    print("size   matrix GFLOP/s   plan ms   share   update ms   share")
    for row in rows:
        print(
            f"{row['size']:6} {row['matrix_gflops']:14.0f} {row['plan_ms']:9.1f} {row['plan_share']:7.0%}"
            f" {row['update_ms']:11.1f} {row['update_share']:7.0%}"
        )


if __name__ == "__main__":
    main()
