"""Networks of actor-critic methods: what is different while they are trained, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foreplan.core.errors import UsageError
from foreplan.nn.batch_renorm import RATE, BatchRenorm, NormalisedPerceptron
from foreplan.nn.hypersphere import Hypersphere
from foreplan.nn.network import Architecture, Heads, Network
from foreplan.nn.stats import Moments, ReturnScale

KEY = jax.random.key(0)
XS = 2.0 + 3.0 * jax.random.normal(jax.random.key(1), (64, 5))
KINDS = [
    Architecture(width=16),
    Architecture("layer-norm", width=16, dropout=0.2),
    Architecture("batch-renorm", width=16, weight_norm=True, warmup=3),
    Architecture("hypersphere", width=16, layers=1),
]
every_kind = pytest.mark.parametrize("architecture", KINDS, ids=lambda a: a.kind)


def make(architecture: Architecture) -> Network:
    return architecture.make(5, 3, KEY)


@every_kind
def test_when_acting_an_output_depends_on_its_own_input_alone(architecture: Architecture) -> None:
    """(PITFALLS 19)"""
    net = make(architecture).observed(XS)
    together = jax.vmap(net)(XS)
    np.testing.assert_allclose(together[:1], jax.vmap(net)(XS[:1]), rtol=2e-4, atol=1e-5)
    assert together.shape == (64, 3)


@every_kind
def test_heads_do_what_each_of_them_does(architecture: Architecture) -> None:
    heads = Heads(lambda key: architecture.make(5, 3, key), 3, KEY)
    each = [jax.vmap(lambda key: architecture.make(5, 3, key))(jax.random.split(KEY, 3))]
    members = [jax.tree.map(lambda leaf, i=i: leaf[i], each[0]) for i in range(3)]
    for got, member in zip(heads.batch(XS), members, strict=True):
        np.testing.assert_allclose(got, member.batch(XS), rtol=1e-4, atol=1e-5)
    for got, member in zip(heads.observed(XS).constrained().evaluate(XS), members, strict=True):
        np.testing.assert_allclose(got, jax.vmap(member.observed(XS).constrained())(XS), rtol=1e-3, atol=1e-4)


def test_dropout_needs_a_key_and_keeps_the_mean() -> None:
    net = make(KINDS[1])
    np.testing.assert_allclose(net.batch(XS), jax.vmap(net)(XS), rtol=1e-5, atol=1e-6)
    one, two = (net.batch(XS, jax.random.key(seed)) for seed in (0, 1))
    assert not np.allclose(one, two)
    assert not np.allclose(one[0] - jax.vmap(net)(XS)[0], one[1] - jax.vmap(net)(XS)[1])  # each row its own


def test_batch_renorm_is_batch_norm_until_it_is_warm() -> None:
    norm = BatchRenorm(5, warmup=1)
    ys = np.asarray(norm.batch(XS))
    np.testing.assert_allclose(ys.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(ys.std(axis=0), 1.0, rtol=1e-3)
    warm = norm
    for _ in range(2000):
        warm = warm.observed(XS)
    np.testing.assert_allclose(warm.mean, XS.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(warm.variance, XS.var(axis=0), rtol=1e-4)
    shifted = XS + 1.0  # once warm, a batch is seen by the running statistics, not its own
    np.testing.assert_allclose(warm.batch(shifted), jax.vmap(warm)(shifted), rtol=1e-3, atol=1e-4)
    assert not np.allclose(norm.batch(shifted), jax.vmap(warm)(shifted), atol=1e-2)


def test_running_statistics_move_only_when_they_observe() -> None:
    """The policy's loss sees the critics, but must not change their statistics (PITFALLS 19)."""
    net = make(KINDS[2])
    assert isinstance(net, NormalisedPerceptron)
    gradient = jax.grad(lambda net: jnp.sum(net.batch(XS) ** 2))(net)
    for norm in gradient.norms:
        np.testing.assert_array_equal(norm.mean, 0.0)
        np.testing.assert_array_equal(norm.variance, 0.0)
    seen = net.observed(XS)
    np.testing.assert_allclose(seen.norms[0].mean, RATE * XS.mean(axis=0), rtol=1e-5)


def test_constrained_weights_have_rows_of_unit_length() -> None:
    normed, sphere = make(KINDS[2]).constrained(), make(KINDS[3])
    assert isinstance(normed, NormalisedPerceptron)
    assert isinstance(sphere, Hypersphere)
    grown = jax.tree.map(lambda x: 2.0 * x, sphere).constrained()
    for weight in [
        *(linear.weight for linear in normed.linears[:-1]),
        grown.embed.weight,
        grown.blocks[0].first.weight,
    ]:
        np.testing.assert_allclose(jnp.linalg.norm(weight, axis=1), 1.0, rtol=1e-5)


def test_a_hypersphere_sees_how_long_its_input_is() -> None:
    net = make(KINDS[3])
    assert not np.allclose(net(XS[0]), net(3.0 * XS[0]), atol=1e-3)


def test_moments_are_those_of_all_that_was_seen() -> None:
    xs = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (100, 4)), jnp.float32)
    moments = Moments.create(4)
    np.testing.assert_array_equal(moments.normalise(xs), xs)  # before anything was seen
    for begin, end in [(0, 1), (1, 40), (40, 100)]:
        moments = moments.update(xs[begin:end])
    np.testing.assert_allclose(moments.mean, xs.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, xs.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(moments.normalise(xs)).std(axis=0), 1.0, rtol=1e-3)


def test_rewards_are_scaled_by_what_episodes_return() -> None:
    """A reward of 10, cut after each third step: discounted by 0.9 the running returns are 10, 19 and 27.1."""
    scale = ReturnScale.create(1)
    for t in range(300):
        scale = scale.update(jnp.full(1, 10.0), jnp.asarray([t % 3 == 2]), 0.9)
    assert float(scale.largest) == pytest.approx(27.1, rel=1e-5)
    assert float(scale.value(1.0)) == pytest.approx(27.1, rel=1e-5)
    assert float(scale.value(100.0)) == pytest.approx(np.std([10.0, 19.0, 27.1]), rel=1e-3)


def test_dropout_where_there_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="layer-norm"):
        Architecture("plain", dropout=0.1)
    with pytest.raises(UsageError, match="from 0 to below 1"):
        Architecture("layer-norm", dropout=1.0)
