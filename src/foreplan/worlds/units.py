"""Networks in other units: what they say of the world stays as it was. Exact, since units enter and leave a network
linearly: they are folded into its first and its last layer."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from foreplan.nn.nets import Perceptron
from foreplan.worlds.ensemble import EnsembleWorld, Gaussian, Scaling


def rebased(world: EnsembleWorld, scaling: Scaling) -> EnsembleWorld:
    """The world with this scaling, of the same kind of target, and the same predictions."""
    old, new = world.scaling, scaling
    obs_dim = len(old.target_mean)

    def wide(x: Float32[Array, "obs_action"]) -> Float32[Array, "twice_obs_action"]:
        """Of (obs, action, next obs): see `Member.outcome`."""
        return jnp.concatenate([x, x[:obs_dim]])

    inputs = new.input_std / old.input_std, (new.input_mean - old.input_mean) / old.input_std
    outcome = wide(inputs[0]), wide(inputs[1])

    def gaussian(net: Gaussian) -> Gaussian:
        ratio, move = old.target_std / new.target_std, (old.target_mean - new.target_mean) / new.target_std
        if net.bounds is None:
            return eqx.tree_at(lambda g: g.net, net, folded(net.net, *inputs, ratio, move))
        wider = 2.0 * jnp.log(ratio)  # of a log variance, and so of its bounds
        ratio, move = jnp.concatenate([ratio, jnp.ones_like(ratio)]), jnp.concatenate([move, wider])
        bounds = net.bounds[0] + wider, net.bounds[1] + wider
        return eqx.tree_at(lambda g: (g.net, g.bounds), net, (folded(net.net, *inputs, ratio, move), bounds))

    def reward(net: Perceptron) -> Perceptron:
        ratio, move = old.reward_std / new.reward_std, (old.reward_mean - new.reward_mean) / new.reward_std
        return folded(net, *outcome, ratio[None], move[None])

    def continuation(net: Perceptron) -> Perceptron:
        return folded(net, *outcome, jnp.ones(1), (old.odds - new.odds)[None])

    how: dict[str, Callable] = {"dynamics": gaussian, "reward": reward, "continuation": continuation}
    nets = {name: jax.vmap(how[name])(net) for name, net in world.nets.items()}
    return replace(world, nets=nets, scaling=new)


def folded(
    net: Perceptron,
    ratio_in: Float32[Array, "in"],
    move_in: Float32[Array, "in"],
    ratio_out: Float32[Array, "out"],
    move_out: Float32[Array, "out"],
) -> Perceptron:
    """x -> ratio_out net(ratio_in x + move_in) + move_out, as a network."""
    weights, biases = [layer.weight for layer in net.layers], [layer.bias for layer in net.layers]
    biases[0] = biases[0] + weights[0] @ move_in
    weights[0] = weights[0] * ratio_in[None]
    biases[-1] = biases[-1] * ratio_out + move_out
    weights[-1] = weights[-1] * ratio_out[:, None]
    return eqx.tree_at(
        lambda n: [*(layer.weight for layer in n.layers), *(layer.bias for layer in n.layers)], net, [*weights, *biases]
    )


def merged(world: EnsembleWorld, parts: dict[str, EnsembleWorld]) -> EnsembleWorld:
    """`world` with the networks, of as many members, of worlds that have one each. The units are those of the dynamics
    where these are among them, else of the first."""
    first = parts["dynamics"] if "dynamics" in parts else next(iter(parts.values()))
    nets = dict(world.nets)
    for name, part in parts.items():
        nets[name] = rebased(part, first.scaling).nets[name]
    known = "dynamics" in parts
    return replace(
        world,
        nets=nets,
        scaling=first.scaling,
        elites=first.elites if known else world.elites,
        fits=first.fits if known else jnp.zeros_like(world.fits),  # the kind of target is still to be chosen
    )
