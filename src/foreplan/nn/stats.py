"""Running statistics that are part of a learner."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float32


class RunningScale(eqx.Module):
    """An average of the range between the 5th and the 95th percentile, never below 1 (TD-MPC2, appendix A)."""

    value: Float32[Array, ""]

    @classmethod
    def create(cls) -> "RunningScale":
        return cls(jnp.ones(()))

    def update(self, x: Float32[Array, "n"], rate: float = 0.01) -> "RunningScale":
        low, high = jnp.percentile(x, jnp.array([5.0, 95.0]))
        return RunningScale(self.value + rate * (jnp.maximum(1.0, high - low) - self.value))
