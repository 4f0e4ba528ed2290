"""SAC's updates a second, and their share of the machine's own float32 matrix-product rate.

    python benchmarks/sac_speed.py [--json]

Two layers of 256, batch 256, a hopper's 11 observations and 3 actions; sampling is included, acting and the environment
are not. Where SBX (stable-baselines3 in JAX) can be imported, it makes the same updates in turns with ours, so both
see the same machine. Only the matrix products that the algorithm needs are counted. The rate is that of a 2048 x 2048
product, measured between the others.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from foreplan.agents.sac import SAC
from foreplan.core.machine import keep_memory
from foreplan.core.replay import Replay, insert
from foreplan.core.types import Spec, Step

OBS, ACTION, BATCH, WIDTH, STORED = 11, 3, 256, 256, 2000
SPEC = Spec(obs_shape=(OBS,), action_dim=ACTION)


@dataclass(frozen=True)
class Work:
    name: str
    updates: int  # in one call
    policy_every: int


WORKS = (
    Work("UTD 1", 1, 1),
    Work("UTD 20", 20, 1),
    Work("UTD 20, one policy update", 20, 20),
)


def matrix_rate(size: int = 2048) -> float:
    """FLOP/s of a square float32 product."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    start = time.perf_counter()
    for _ in range(3):
        jax.block_until_ready(product(x, x))
    return 3 * 2 * size**3 / (time.perf_counter() - start)


def flops(work: Work) -> float:
    """Of one update, on average: the products alone, two operations a multiply-add."""
    policy = OBS * WIDTH + WIDTH**2 + WIDTH * 2 * ACTION
    critic = (OBS + ACTION) * WIDTH + WIDTH**2 + WIDTH
    critics = policy + 2 * critic + 3 * 2 * critic  # the target, then forth and back
    improve = 3 * policy + 2 * 2 * critic + policy  # back through the critics to the action alone; the temperature
    return 2.0 * BATCH * (critics + improve / work.policy_every)


def ours(work: Work) -> Callable[[], object]:
    agent = SAC(policy_every=work.policy_every)
    learner = jax.jit(lambda key: agent.init(SPEC, key))(jax.random.key(0))
    rng, no = np.random.default_rng(0), np.zeros(1, np.bool_)
    replay = Replay.create(SPEC, STORED)
    for _ in range(STORED):
        obs, after = (rng.normal(size=(1, OBS)).astype(np.float32) for _ in range(2))
        action = rng.uniform(-1, 1, (1, ACTION)).astype(np.float32)
        replay = insert(replay, Step(obs, action, np.ones(1, np.float32), no, no, after, np.zeros(1, np.int32)))
    calls = 0

    def call() -> object:
        nonlocal learner, calls
        calls += 1
        learner, metrics = agent.learn(learner, replay, jax.random.key(calls), work.updates)
        return jax.block_until_ready(metrics)

    return call


def peer(work: Work) -> Callable[[], object] | None:
    try:
        import gymnasium
        from sbx import SAC as Peer
        from stable_baselines3.common.logger import configure
    except ImportError:
        return None

    class Nothing(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-10.0, 10.0, (OBS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    model: Any = Peer("MlpPolicy", Nothing(), batch_size=BATCH, policy_delay=work.policy_every, buffer_size=STORED)
    model.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    for _ in range(STORED):
        obs, after = (rng.normal(size=(1, OBS)).astype(np.float32) for _ in range(2))
        action = rng.uniform(-1, 1, (1, ACTION)).astype(np.float32)
        model.replay_buffer.add(obs, after, action, np.ones(1), np.zeros(1), [{}])

    def call() -> object:
        model.train(work.updates, BATCH)
        return jax.block_until_ready(model.policy.qf_state.params)

    return call


def measure(work: Work, seconds: float) -> dict[str, float | str]:
    """In turns, for so many seconds: medians, and the rates of both at their best."""
    calls = {name: call for name, call in (("ours", ours(work)), ("peer", peer(work))) if call}
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        rates.append(matrix_rate())
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(max(1, 20 // work.updates)):
                call()
            done = work.updates * max(1, 20 // work.updates)
            times[name].append((time.perf_counter() - start) / done)
    rate, medians = statistics.median(rates), {name: statistics.median(spent) for name, spent in times.items()}
    row: dict[str, float | str] = {
        "work": work.name,
        "matrix_gflops": rate / 1e9,
        "updates_per_s": 1 / medians["ours"],
        "share": flops(work) / medians["ours"] / rate,
    }
    if "peer" in medians:
        ratios = [theirs / own for own, theirs in zip(times["ours"], times["peer"], strict=True)]
        row |= {"peer_updates_per_s": 1 / medians["peer"], "times_the_peer": statistics.median(ratios)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of work")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_memory()  # as the command line does
    rows = [measure(work, options.seconds) for work in WORKS]
    if options.json:
        print(json.dumps(rows))
        return
    print("work                        matrix GFLOP/s   updates/s   share   SBX updates/s   times SBX")
    for row in rows:
        theirs = f"{row['peer_updates_per_s']:15.0f} {row['times_the_peer']:11.2f}" if "times_the_peer" in row else ""
        print(
            f"{row['work']:27} {row['matrix_gflops']:14.0f} {row['updates_per_s']:11.0f} {row['share']:7.0%} {theirs}"
        )


if __name__ == "__main__":
    main()
