"""How much of what an action changes does a learned model foretell?

    python benchmarks/action_effect.py RUN [--json]

A run of MBPO, PETS or MB-MPC: at each state of an episode two actions are drawn from its policy (or at random) and
tried in the environment, which is rolled back between them. What differs after one decision, in the observation and in
the reward, is compared with what the model (the mean of its elites) says will differ: the slope of the one on the other
is 1 for a perfect model, and near 0 where the model has not seen what actions do. A policy climbs these differences: an
error that all actions share does it no harm, and a slope of 0 makes it blind. The slope of the reward is also given for
a model that is told the next observation, which is what its reward network knows.
"""

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from foreplan.run.saved import Saved


@eqx.filter_jit
def imagined(world: Any, obs: jax.Array, action: jax.Array, true: jax.Array) -> jax.Array:
    """[state, next observation, reward, reward of the true next observation], means over the elites."""

    def one(member: Any) -> jax.Array:
        after = jax.vmap(member.predict)(obs, action)[0]
        rewards = [jax.vmap(member.reward)(obs, action, next_obs) for next_obs in (after, true)]
        return jnp.concatenate([after, jnp.stack(rewards, axis=1)], axis=1)

    return jnp.mean(jax.lax.map(one, world.members(world.elites)), axis=0)


def differences(saved: Saved, states: int, at_random: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(what differed, what the model says will differ), [state, observation and reward twice], along an episode."""
    rng, key, true, said = np.random.default_rng(seed), jax.random.key(seed), [], []
    with closing(saved.make_env(saved.settings.env, action_repeat=saved.settings.action_repeat)) as env:
        learner = saved.learner(env)
        memory, timestep = saved.agent.memory(env.spec), env.reset(seed)
        for number in range(states):
            outcomes, actions, here = [], [], env.snapshot()
            for draw in range(2):
                env.restore(here)
                now = jax.random.fold_in(key, 2 * number + draw)
                action = rng.uniform(-1, 1, (1, env.spec.action_dim)).astype(np.float32)
                if not at_random:
                    action = np.asarray(saved.agent.act(learner, timestep, memory, now, True)[0])
                env.send(action)
                after = env.recv()
                outcomes.append(np.append(after.obs[0], after.reward[[0, 0]]))
                actions.append(action[0])
            obs = jnp.asarray(np.repeat(np.asarray(timestep.obs, np.float32), 2, axis=0))
            arrived = jnp.asarray(np.stack(outcomes)[:, :-2], jnp.float32)
            told = np.asarray(imagined(learner.world, obs, jnp.asarray(np.stack(actions)), arrived))
            true.append(outcomes[0] - outcomes[1])
            said.append(told[0] - told[1])
            if after.terminated[0] or after.truncated[0]:
                break
            timestep = after
    return np.asarray(true), np.asarray(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--states", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    saved, found = Saved.open(options.run), {}
    for name, at_random in (("drawn from the policy", False), ("at random", True)):
        true, said = differences(saved, options.states, at_random, options.seed)
        slope = np.sum(true * said, axis=0) / np.maximum(1e-12, np.sum(true**2, axis=0))
        *obs, reward, reward_told = np.round(slope, 2).tolist()
        found[name] = {"states": len(true), "obs": obs, "reward": reward, "reward_told_next": reward_told}
        if not options.json:
            print(
                f"actions {name}: slope {np.median(obs):.2f} of the observation (median), {reward:.2f} of the reward, "
                f"{reward_told:.2f} if told the next observation, {len(true)} states"
            )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
