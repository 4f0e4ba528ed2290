"""TD-MPC2 against the authors' own code: outputs, targets, values of plans, and five updates, from equal weights."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.agents.tdmpc import TDMPC2, Learner, Losses, Network
from foreplan.core.maths import TwoHot
from foreplan.core.model import proposals, returns
from foreplan.core.replay import Window
from foreplan.core.types import Spec
from foreplan.nn.dists import SquashedGaussian
from foreplan.nn.nets import MLP, Block, Ensemble
from foreplan.planners.mppi import MPPI
from foreplan.worlds.latent import Imagination

SPEC = Spec(obs_shape=(5,), action_dim=2, episode_length=500, terminates=False)
AGENT = TDMPC2(
    network=Network(latent=16, width=32, encoder_width=24, heads=3, dropout=0.0),
    two_hot=TwoHot(bins=21),
    losses=Losses(entropy=0.0),
    batch_size=8,
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "tdmpc2.npz") as file:
        return dict(file)


@pytest.fixture(autouse=True)
def without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference was run: no noise, and always the first two heads."""
    monkeypatch.setattr(jax.random, "normal", lambda key, shape=(), dtype=jnp.float32: jnp.zeros(shape, dtype))

    def first_two(self: Ensemble, number: int, key: jax.Array) -> Ensemble:
        return eqx.tree_at(lambda e: e.members, self, jax.tree.map(lambda w: w[:number], self.members))

    monkeypatch.setattr(Ensemble, "choose", first_two)


def network(mlp: MLP, golden: dict[str, np.ndarray], prefix: str) -> MLP:
    """`mlp` with the reference's weights."""

    def linear(layer: Block) -> list:
        return [layer.linear.weight, layer.linear.bias, layer.scale, layer.offset]

    for i, layer in enumerate((*mlp.blocks, mlp.last)):
        names = ["weight", "bias", "ln.weight", "ln.bias"] if isinstance(layer, Block) else ["weight", "bias"]
        new = [jnp.asarray(golden[f"{prefix}.{i}.{name}"]) for name in names]

        def leaves(mlp: MLP, i: int = i) -> list:
            layer = (*mlp.blocks, mlp.last)[i]
            return linear(layer) if isinstance(layer, Block) else [layer.weight, layer.bias]

        assert [old.shape for old in leaves(mlp)] == [weights.shape for weights in new]
        mlp = eqx.tree_at(leaves, mlp, new)
    return mlp


def learner(golden: dict[str, np.ndarray], when: str) -> Learner:
    fresh = AGENT.init(SPEC, KEY)
    world = eqx.tree_at(
        lambda w: (w.encoder, w.dynamics, w.reward, w.critics.members),
        fresh.world,
        (
            network(fresh.world.encoder, golden, f"{when}/_encoder.state"),
            network(fresh.world.dynamics, golden, f"{when}/_dynamics"),
            network(fresh.world.reward, golden, f"{when}/_reward"),
            network(fresh.world.critics.members, golden, f"{when}/_Qs.params"),
        ),
    )
    return eqx.tree_at(
        lambda t: (t.world, t.policy, t.target_critics.members),
        fresh,
        (
            world,
            network(fresh.policy, golden, f"{when}/_pi"),
            network(fresh.target_critics.members, golden, f"{when}/_target_Qs_params"),
        ),
    )


def window(golden: dict[str, np.ndarray]) -> Window:
    def batch_first(name: str) -> jax.Array:
        return jnp.asarray(golden[name].swapaxes(0, 1))

    terminated = batch_first("terminated")[..., 0] > 0.5
    return Window(
        obs=batch_first("obs"),
        action=batch_first("action"),
        reward=batch_first("reward")[..., 0],
        terminated=terminated,
        truncated=jnp.zeros_like(terminated),
        mask=jnp.ones_like(terminated),
    )


def test_networks_agree(golden: dict[str, np.ndarray]) -> None:
    it, batch = learner(golden, "before"), window(golden)
    action = batch.action[:, 0]
    z = jax.vmap(it.world.encode)(batch.obs[:, 0])
    policy = jax.vmap(lambda z: SquashedGaussian.of(it.policy(z)))(z)
    target = it.target_critics.choose(2, KEY)
    got = {
        "z": z,
        "next": jax.vmap(it.world.next)(z, action),
        "reward_logits": jax.vmap(it.world.reward_logits)(z, action),
        "q_logits": jax.vmap(it.world.q_logits)(z, action).swapaxes(0, 1),
        "q_min": jax.vmap(lambda z, a: jnp.min(it.world.q_values(target, z, a, it.discount)))(z, action)[:, None],
        "pi_mean": jnp.tanh(policy.mean),
        "pi_log_std": policy.log_std,
    }
    for name, value in got.items():
        np.testing.assert_allclose(value, golden[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_targets_and_values_of_plans_agree(golden: dict[str, np.ndarray]) -> None:
    it, batch = learner(golden, "before"), window(golden)
    _, targets = AGENT.td_targets(it, batch, KEY)
    np.testing.assert_allclose(targets, golden["td_targets"][..., 0].T, rtol=1e-5, atol=1e-5)
    model = Imagination(it.world, it.policy, it.world.critics.choose(2, KEY), it.discount)
    candidates = jnp.asarray(golden["candidates"].swapaxes(0, 1))
    values = jax.vmap(lambda actions: returns(model, jnp.asarray(golden["z"][0]), actions, KEY))(candidates)
    np.testing.assert_allclose(values, golden["values"][:, 0], rtol=1e-5, atol=1e-5)


def test_plans_of_the_same_noise_are_the_same(golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two decisions in a row, the second from the first one's warm start: the plan, and the action drawn from it."""
    with np.load(Path(__file__).parent / "tdmpc2_plan.npz") as file:
        given = dict(file)
    it = learner(golden, "before")
    model = Imagination(it.world, it.policy, it.world.critics.choose(2, KEY), it.discount)
    planner = MPPI(3, num_samples=64, num_proposals=4, num_elites=8, iterations=4, temperature=2.0, scale="raw")
    memory = planner.init(action_dim=2)
    for decision in range(2):
        z, memory = it.world.encode(jnp.asarray(given["obs"][decision])), planner.shift(memory)
        offered = proposals(model, z, planner.horizon, planner.num_proposals, KEY)
        for noise in given["noise"][decision].swapaxes(1, 2):  # of the first candidate 0: it is the plan's mean
            with monkeypatch.context() as patch:
                patch.setattr(jax.random, "normal", lambda *_, noise=noise: jnp.asarray(noise[1:]))
                actions = planner.ask(memory, offered, KEY)
            scores = jax.vmap(lambda plan, z=z: returns(model, z, plan, KEY))(actions)
            memory = planner.tell(memory, actions, scores)
        np.testing.assert_allclose(memory.mean, given["mean"][decision], atol=1e-5)
        drawn = memory.elites[jnp.argmax(memory.log_weights + given["gumbel"][decision])]
        np.testing.assert_allclose(drawn, given["action"][decision], atol=1e-5)


def test_five_updates_agree(golden: dict[str, np.ndarray]) -> None:
    it, batch = learner(golden, "before"), window(golden)
    it = replace_optimiser_state(it)
    update = jax.jit(AGENT.update)
    for i in range(5):
        it, metrics = update(it, batch, KEY)
        for ours, theirs in {
            "consistency_loss": "consistency_loss",
            "reward_loss": "reward_loss",
            "value_loss": "value_loss",
            "policy_loss": "pi_loss",
            "q_scale": "pi_scale",
        }.items():
            expected = golden[f"loss/{theirs}"][i]
            np.testing.assert_allclose(metrics[ours], expected, rtol=1e-4, atol=1e-6, err_msg=f"{ours}, update {i}")
    expected = learner(golden, "after")
    for part in ("world", "policy", "target_critics"):
        for got, want in zip(jax.tree.leaves(getattr(it, part)), jax.tree.leaves(getattr(expected, part)), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-5, err_msg=part)


def replace_optimiser_state(it: Learner) -> Learner:
    """Fresh optimisers for weights that did not come from `init`."""
    return replace(
        it,
        world_optimiser=AGENT.optimiser.of_world(it.world).init(it.world),
        policy_optimiser=AGENT.optimiser.of_policy().init(it.policy),
    )
