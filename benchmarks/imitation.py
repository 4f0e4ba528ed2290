"""BC and DAgger from one expert at an equal number of labels.

    python benchmarks/imitation.py gym/CartPole-v1 --expert laws:balance --episodes 5 --seeds 5 --out results/imitation

A line of JSON for each seed: the expert's return, and what its clones return in ten evaluation episodes. BC has the
expert's own episodes; with `--noise` it is also given as many in which the expert was disturbed (DART); DAgger asks for
as many labels, a tenth of them in each round.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from foreplan.agents.bc import BC
from foreplan.agents.dagger import Beta, DAgger
from foreplan.data import names
from foreplan.data.dataset import Dataset
from foreplan.envs import gl
from foreplan.run.cache import use_compilation_cache


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("env")
    parser.add_argument("--expert", default="plan")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--labels", type=int, help="of these episodes so many labels alone, the first")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--beta", type=float, help="the expert acts with probability beta^round; else in the first alone"
    )
    parser.add_argument("--noise", type=float, default=0.0, help="deviation of what disturbs the expert's actions")
    parser.add_argument("--out", type=Path, default=Path("results/imitation"))
    options = parser.parse_args()
    gl.configure()
    use_compilation_cache()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.env.replace('/', '-')}-{options.labels or options.episodes}.jsonl"
    with path.open("a") as file:
        for seed in range(options.seeds):
            line = json.dumps(compare(options, seed))
            print(line, flush=True)
            print(line, file=file, flush=True)


def compare(options: argparse.Namespace, seed: int) -> dict:
    from foreplan.run.loop import train
    from foreplan.run.record import record
    from foreplan.run.saved import Saved
    from foreplan.run.settings import Settings, Warm

    with tempfile.TemporaryDirectory() as folder:
        begin, found = time.perf_counter(), {}
        noises = {"bc": 0.0} | ({"disturbed_bc": options.noise} if options.noise else {})
        settings = Settings(options.env, steps=1, seed=seed, eval_every=10**9, eval_episodes=10, save_every=10**9)
        whole = {
            name: record(options.env, options.expert, options.episodes, seed=1000 + seed, noise=noise)
            for name, noise in noises.items()
        }
        expert = float(np.mean(whole["bc"].returns))
        shown = {name: first(data, options.labels) for name, data in whole.items()}
        for name, data in shown.items():
            demos = str(Path(folder) / f"{name}.npz")
            names.save(demos, data)
            clone = train(BC(), replace(settings, warm=Warm(demos=demos)), Path(folder) / name)
            found[name] = Saved.open(clone).evaluate(10)
        labels, repeat = len(shown["bc"]), shown["bc"].about.action_repeat
        beta = Beta() if options.beta is None else Beta("exponential", options.beta)
        agent = DAgger(expert=options.expert, round_steps=-(-labels // options.rounds), beta=beta)
        policy = Saved.open(train(agent, replace(settings, steps=labels * repeat), Path(folder) / "dagger"))
        found["dagger"] = policy.evaluate(10)
        return {
            "env": options.env,
            "expert": Path(options.expert).name,
            "seed": seed,
            "labels": labels,
            "noise": options.noise,
            "beta": options.beta,
            "expert_return": expert,
            "shares": {name: result.mean / expert for name, result in found.items()},
            "returns": {name: result.returns for name, result in found.items()},
            "act_ms": act_ms(policy),
            "seconds": time.perf_counter() - begin,
        }


def first(data: Dataset, labels: int | None) -> Dataset:
    arrays: dict[str, Any] = {name: array[:labels] for name, array in data.arrays.items()}
    return replace(data, **arrays)


def act_ms(saved: object) -> float:
    """Milliseconds of one decision in one environment, the transfer to the host included: the median of 500."""
    from foreplan.core.types import TimeStep
    from foreplan.envs.names import make

    env = make(saved.settings.env, action_repeat=saved.settings.action_repeat)  # type: ignore[attr-defined]
    timestep: TimeStep = jax.device_put(env.reset(0))
    learner, agent, key = saved.learner(env), saved.agent, jax.random.key(0)  # type: ignore[attr-defined]
    memory, spent = agent.memory(env.spec), []
    for _ in range(501):
        begin = time.perf_counter()
        actions, memory, _ = agent.act(learner, timestep, memory, key, False)
        np.asarray(jax.device_get(actions))
        spent.append(time.perf_counter() - begin)
    env.close()
    return 1000.0 * float(np.median(spent[1:]))


if __name__ == "__main__":
    main()
