"""The squashed Gaussian policy: a normal in R^n seen through tanh (Haarnoja et al. 2018, appendix C)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.maths import softplus


class SquashedGaussian(eqx.Module):
    """tanh(mean + exp(log_std) * noise), a distribution over [-1, 1]^action."""

    mean: Float32[Array, "action"]  # before the squashing
    log_std: Float32[Array, "action"]

    @classmethod
    def of(cls, outputs: Float32[Array, "twice_action"], low: float = -10.0, high: float = 2.0) -> "SquashedGaussian":
        """From a network's outputs: the log standard deviation is bounded smoothly between `low` and `high`."""
        mean, raw = jnp.split(outputs, 2)
        return cls(mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0))

    def mode(self) -> Float32[Array, "action"]:
        return jnp.tanh(self.mean)

    def sample(self, key: PRNGKeyArray) -> tuple[Float32[Array, "action"], Float32[Array, ""]]:
        """(action, its log-probability), differentiable in the parameters."""
        return self.at(jax.random.normal(key, self.mean.shape, jnp.float32))

    def at(self, noise: Float32[Array, "action"]) -> tuple[Float32[Array, "action"], Float32[Array, ""]]:
        """(action, its log-probability) for a draw of normal noise. The Jacobian of tanh is counted exactly:
        log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u))."""
        unsquashed = self.mean + jnp.exp(self.log_std) * noise
        gaussian = -0.5 * noise * noise - self.log_std - 0.5 * jnp.log(2.0 * jnp.pi)
        jacobian = 2.0 * (jnp.log(2.0) - unsquashed - softplus(-2.0 * unsquashed))
        return jnp.tanh(unsquashed), jnp.sum(gaussian - jacobian)

    def log_prob(self, action: Float32[Array, "action"], inside: float = 1e-4) -> Float32[Array, ""]:
        """The log-probability of an action that somebody else has chosen. At +-1 it would be infinite: actions are
        taken to lie at least `inside` within."""
        bounded = jnp.clip(action, -1.0 + inside, 1.0 - inside)
        noise = (jnp.arctanh(bounded) - self.mean) * jnp.exp(-self.log_std)
        gaussian = -0.5 * noise * noise - self.log_std - 0.5 * jnp.log(2.0 * jnp.pi)
        return jnp.sum(gaussian - jnp.log1p(-bounded * bounded))


class NoisyTanh(eqx.Module):
    """tanh(outputs) with normal noise of a deviation that is given, cut at `cut`: the policy of TD-MPC (Hansen et al.
    2022). The gradient passes the bounds of the action space as if they were not there."""

    outputs: Float32[Array, "action"]
    std: float = eqx.field(static=True)
    cut: float = eqx.field(static=True, default=0.3)

    def mode(self) -> Float32[Array, "action"]:
        return jnp.tanh(self.outputs)

    def sample(self, key: PRNGKeyArray) -> tuple[Float32[Array, "action"], Float32[Array, ""]]:
        """(action, 0): the entropy does not depend on the parameters."""
        noise = self.std * jax.random.normal(key, self.outputs.shape, jnp.float32)
        action = self.mode() + jnp.clip(noise, -self.cut, self.cut)
        return action + jax.lax.stop_gradient(jnp.clip(action, -1.0, 1.0) - action), jnp.zeros(())
