"""SAC against CleanRL's published script: every loss and every weight over 100 updates, from equal weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.agents.sac import SAC
from foreplan.agents.sac_parts import Critic, Data, Learner, Optimiser
from foreplan.core.replay import Window
from foreplan.core.types import Spec
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.network import Architecture, Heads

OBS, ACTION, BATCH, UPDATES, WIDTH = 5, 2, 16, 100, 24
SMALL = Architecture(width=WIDTH)
AGENT = SAC(
    policy=SMALL,
    critic=Critic(SMALL),
    optimiser=Optimiser(policy_lr=3e-4, critic_lr=1e-3, temperature_lr=1e-3),
    data=Data(batch_size=BATCH),
)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "sac.npz") as file:
        return dict(file)


def batches() -> Iterator[tuple[Window, jax.Array]]:
    """The batches and the noise [three draws, batch, action] that the reference was given."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    noise, obs = normal(UPDATES, 3, BATCH, ACTION), normal(UPDATES, BATCH, OBS)
    action = jnp.asarray(rng.uniform(-1, 1, (UPDATES, BATCH, ACTION)), jnp.float32)
    reward, terminated = normal(UPDATES, BATCH), jnp.asarray(rng.random((UPDATES, BATCH)) < 0.2)
    next_obs = normal(UPDATES, BATCH, OBS)
    for i in range(UPDATES):
        ended = terminated[i][:, None]
        yield (
            Window(
                obs=jnp.stack([obs[i], next_obs[i]], axis=1),
                action=action[i][:, None],
                reward=reward[i][:, None],
                terminated=ended,
                truncated=jnp.zeros_like(ended),
                mask=jnp.ones_like(ended),
            ),
            noise[i],
        )


def policy(golden: dict[str, np.ndarray], when: str) -> list[np.ndarray]:
    """Weights and biases by layer; the reference's two last layers, of mean and deviation, are one here."""
    layers = [golden[f"{when}/actor.fc{i}.{part}"] for i in (1, 2) for part in ("weight", "bias")]
    last = [
        np.concatenate([golden[f"{when}/actor.fc_{head}.{part}"] for head in ("mean", "logstd")])
        for part in ("weight", "bias")
    ]
    return [*layers, *last]


def critics(golden: dict[str, np.ndarray], when: str, suffix: str = "") -> list[np.ndarray]:
    names = [f"fc{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]
    return [np.stack([golden[f"{when}/qf{head}{suffix}.{name}"] for head in (1, 2)]) for name in names]


def with_weights(network: Any, weights: list[np.ndarray]) -> Any:
    leaves, structure = jax.tree.flatten(network)
    assert [leaf.shape for leaf in leaves] == [weight.shape for weight in weights]
    return jax.tree.unflatten(structure, [jnp.asarray(weight) for weight in weights])


def test_losses_and_weights_agree_over_100_updates(
    golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = AGENT.init(Spec((OBS,), ACTION), jax.random.key(0))
    assert isinstance(fresh.targets, Heads)
    learner = eqx.tree_at(
        lambda it: (it.policy, it.critics, it.targets),
        fresh,
        (
            with_weights(fresh.policy, policy(golden, "before")),
            with_weights(fresh.critics, critics(golden, "before")),
            with_weights(fresh.targets, critics(golden, "before", "_target")),
        ),
    )

    @jax.jit
    def update(learner: Learner, window: Window, noise: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        draws = list(noise)  # in the order of the paper: of the target, of the policy, of the temperature

        def sample(self: SAC, outputs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.vmap(lambda x, noise: SquashedGaussian.of(x, *self.log_std).at(noise))(outputs, draws.pop(0))

        monkeypatch.setattr(SAC, "sample", sample)
        return AGENT.update(learner, window, jax.random.key(0))

    names = {
        "critic_loss": "qf_loss",
        "policy_loss": "actor_loss",
        "temperature_loss": "alpha_loss",
        "temperature": "alpha",
    }
    for i, (window, noise) in enumerate(batches()):
        learner, metrics = update(learner, window, noise)
        for ours, theirs in names.items():
            want = golden[f"loss/{theirs}"][i]
            np.testing.assert_allclose(metrics[ours], want, rtol=1e-5, atol=1e-5, err_msg=f"{ours}, update {i}")
    for network, weights in [
        (learner.policy, policy(golden, "after")),
        (learner.critics, critics(golden, "after")),
        (learner.targets, critics(golden, "after", "_target")),
    ]:
        for got, want in zip(jax.tree.leaves(network), weights, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)
