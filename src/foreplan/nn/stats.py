"""Running statistics that are part of a learner."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from foreplan.core.replay import Replay, fold
from foreplan.core.types import Step


class RunningScale(eqx.Module):
    """An average of the range between the 5th and the 95th percentile, never below 1 (TD-MPC2, appendix A)."""

    value: Float32[Array, ""]

    @classmethod
    def create(cls) -> "RunningScale":
        return cls(jnp.ones(()))

    def update(self, x: Float32[Array, "n"], rate: float = 0.01) -> "RunningScale":
        low, high = jnp.percentile(x, jnp.array([5.0, 95.0]))
        return RunningScale(self.value + rate * (jnp.maximum(1.0, high - low) - self.value))


class Moments(eqx.Module):
    """Mean and variance of all vectors seen so far (Chan et al. 1979: batches are merged without loss)."""

    count: Float32[Array, ""]
    mean: Float32[Array, "n"]
    squares: Float32[Array, "n"]  # summed squared distances to the mean

    @classmethod
    def create(cls, size: int) -> "Moments":
        return cls(jnp.zeros(()), jnp.zeros((size,)), jnp.zeros((size,)))

    @property
    def variance(self) -> Float32[Array, "n"]:
        """1 while nothing was seen."""
        return jnp.where(self.count > 0, self.squares / jnp.maximum(1.0, self.count), 1.0)

    def update(self, xs: Float32[Array, "batch n"]) -> "Moments":
        number = jnp.float32(xs.shape[0])
        mean = jnp.mean(xs, axis=0)
        squares = jnp.sum((xs - mean[None]) ** 2, axis=0)
        count = self.count + number
        apart = mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + apart * number / count,
            squares=self.squares + squares + apart * apart * self.count * number / count,
        )

    def normalise(self, x: Float32[Array, "*lead n"]) -> Float32[Array, "*lead n"]:
        """(x - mean) / standard deviation; a component that has never changed is divided by 0.01."""
        lead = (None,) * (x.ndim - 1)
        return (x - self.mean[lead]) * jax.lax.rsqrt(jnp.maximum(self.variance, 1e-4))[lead]


class ReturnScale(eqx.Module):
    """How large discounted returns are: rewards divided by `value(limit)` have returns whose deviation is at most 1 and
    whose size is at most `limit` (Lee et al. 2025, section 4.3)."""

    running: Float32[Array, "env"]  # discounted sum of the rewards of the running episodes
    moments: Moments
    largest: Float32[Array, ""]

    @classmethod
    def create(cls, num_envs: int) -> "ReturnScale":
        return cls(jnp.zeros((num_envs,)), Moments.create(1), jnp.zeros(()))

    def update(
        self, reward: Float32[Array, "env"], ended: Bool[Array, "env"], discount: float | Float32[Array, ""]
    ) -> "ReturnScale":
        running = discount * self.running + reward
        return ReturnScale(
            running=jnp.where(ended, 0.0, running),
            moments=self.moments.update(running[:, None]),
            largest=jnp.maximum(self.largest, jnp.max(jnp.abs(running))),
        )

    def value(self, limit: float) -> Float32[Array, ""]:
        return jnp.maximum(jnp.sqrt(self.moments.variance[0] + 1e-8), self.largest / limit)


class Statistics(eqx.Module):
    """Of all that a buffer was given: its observations, and the returns of its rewards."""

    obs: Moments
    returns: ReturnScale
    seen: Int32[Array, ""]  # rows of the buffer
    shown: Int32[Array, ""]  # rows of its demonstrations

    @classmethod
    def create(cls, obs_dim: int, num_envs: int) -> "Statistics":
        moments, returns = Moments.create(obs_dim), ReturnScale.create(num_envs)
        return cls(moments, returns, seen=jnp.zeros((), jnp.int32), shown=jnp.zeros((), jnp.int32))

    def observed(self, replay: Replay, discount: float | Float32[Array, ""]) -> "Statistics":
        """With the demonstrations, once and before all else, and with what is new in the buffer."""

        def see(state: tuple[Moments, ReturnScale], step: Step) -> tuple[Moments, ReturnScale]:
            obs, returns = state
            ended = jnp.asarray(step.terminated)  # a time limit does not end the return that values stand for
            return obs.update(jnp.asarray(step.obs)), returns.update(jnp.asarray(step.reward), ended, discount)

        obs, returns, shown = self.obs, self.returns, self.shown
        if replay.demos is not None:
            begin = obs, replace(returns, running=jnp.zeros((1,)))
            (obs, theirs), shown = fold(see, begin, replay.demos, self.shown)
            returns = replace(theirs, running=returns.running)
        (obs, returns), seen = fold(see, (obs, returns), replay, self.seen)
        return Statistics(obs, returns, seen, shown)
