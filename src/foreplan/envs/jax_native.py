"""JAX-native environments: pure dynamics of one state, to act in and to plan in alike."""

from abc import abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from foreplan.core.model import Model, State

Line = tuple[tuple[float, float], tuple[float, float], float, tuple[int, int, int]]  # from, to, half width, colour
GREY, BLUE, ORANGE = (150, 150, 150), (60, 90, 160), (220, 120, 40)


class JaxEnv(Model):
    """A `Model` that also knows where episodes begin, what is seen of a state and how to draw it."""

    obs_names: ClassVar[tuple[str, ...]]
    obs_units: ClassVar[tuple[str, ...]]
    action_dim: ClassVar[int] = 1
    episode_length: ClassVar[int]  # environment steps until truncation
    time_step: ClassVar[float]  # seconds
    terminates: ClassVar[bool] = False

    @abstractmethod
    def reset(self, key: PRNGKeyArray) -> State:
        """A state in which an episode begins."""

    @abstractmethod
    def observe(self, state: State) -> Float32[Array, "obs"]:
        """What is seen of `state`."""

    @abstractmethod
    def lines(self, state: State) -> list[Line]:
        """A drawing of `state` (NumPy) in metres, within 2.4 m of the origin."""


class Pendulum(JaxEnv):
    """Gymnasium's Pendulum-v1: swing up and hold a rod with a weak motor. Reward in [-16.3, 0] a step."""

    obs_names: ClassVar[tuple[str, ...]] = ("cos", "sin", "velocity")
    obs_units: ClassVar[tuple[str, ...]] = ("", "", "rad/s")
    episode_length: ClassVar[int] = 200
    time_step: ClassVar[float] = 0.05

    def reset(self, key: PRNGKeyArray) -> Float32[Array, "2"]:
        """(angle from upright in rad, angular velocity in rad/s)."""
        high = jnp.array([jnp.pi, 1.0], jnp.float32)
        return jax.random.uniform(key, (2,), jnp.float32, minval=-high, maxval=high)

    def step(
        self, state: Float32[Array, "2"], action: Float32[Array, "1"], key: PRNGKeyArray
    ) -> tuple[Float32[Array, "2"], Float32[Array, ""], Float32[Array, ""]]:
        del key
        gravity, max_torque, max_speed = 10.0, 2.0, 8.0
        angle, velocity = state
        torque = max_torque * jnp.clip(action[0], -1.0, 1.0)
        from_upright = jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi
        reward = -swing_cost(from_upright, velocity, torque)
        velocity = velocity + (1.5 * gravity * jnp.sin(angle) + 3.0 * torque) * self.time_step
        velocity = jnp.clip(velocity, -max_speed, max_speed)
        return jnp.stack([angle + velocity * self.time_step, velocity]), reward, jnp.ones(())

    def observe(self, state: Float32[Array, "2"]) -> Float32[Array, "obs"]:
        angle, velocity = state
        return jnp.stack([jnp.cos(angle), jnp.sin(angle), velocity])

    def lines(self, state: Any) -> list[Line]:
        angle = float(state[0])
        rod: Line = ((0.0, 0.0), (1.5 * np.sin(-angle), 1.5 * np.cos(angle)), 0.12, ORANGE)
        return [rod, ((0.0, -0.001), (0.0, 0.001), 0.05, GREY)]


class CartpoleSwingup(JaxEnv):
    """dm_control's cartpole-swingup without its joint damping: push a cart to swing its pole up and to hold it there.
    Reward in [0, 1] a step."""

    obs_names: ClassVar[tuple[str, ...]] = ("position", "cos", "sin", "speed", "velocity")
    obs_units: ClassVar[tuple[str, ...]] = ("m", "", "", "m/s", "rad/s")
    episode_length: ClassVar[int] = 1000
    time_step: ClassVar[float] = 0.01
    pole: ClassVar[float] = 1.0  # length in m

    def reset(self, key: PRNGKeyArray) -> Float32[Array, "4"]:
        """(cart position in m, pole angle from upright in rad, and their rates)."""
        hanging = jnp.array([0.0, jnp.pi, 0.0, 0.0], jnp.float32)
        return hanging + 0.01 * jax.random.normal(key, (4,), jnp.float32)

    def step(
        self, state: Float32[Array, "4"], action: Float32[Array, "1"], key: PRNGKeyArray
    ) -> tuple[Float32[Array, "4"], Float32[Array, ""], Float32[Array, ""]]:
        del key
        push = jnp.clip(action[0], -1.0, 1.0)
        state = self.moved(state, push, self.time_step)
        after = self.observe(state)
        return state, swingup_reward(after, action, after), jnp.ones(())

    def moved(self, state: Float32[Array, "4"], push: Float32[Array, ""], time_step: float) -> Float32[Array, "4"]:
        """The state after `time_step` seconds under a constant push, in [-1, 1]."""
        gravity, rail, half_length = 9.81, 1.8, self.pole / 2
        mass, pole_mass, force = 1.1, 0.1, 10.0  # `mass` is of cart and pole together
        position, angle, speed, velocity = state
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        drive = (force * push + pole_mass * half_length * velocity**2 * sin) / mass
        spin = (gravity * sin - cos * drive) / (half_length * (4.0 / 3.0 - pole_mass * cos**2 / mass))
        velocity = velocity + spin * time_step
        speed = speed + (drive - pole_mass * half_length * spin * cos / mass) * time_step
        angle = angle + velocity * time_step
        at_end = jnp.abs(position + speed * time_step) >= rail  # the cart stops dead at the end of its rail
        position = jnp.clip(position + speed * time_step, -rail, rail)
        speed = jnp.where(at_end, 0.0, speed)
        return jnp.stack([position, angle, speed, velocity])

    def observe(self, state: Float32[Array, "4"]) -> Float32[Array, "obs"]:
        position, angle, speed, velocity = state
        return jnp.stack([position, jnp.cos(angle), jnp.sin(angle), speed, velocity])

    def lines(self, state: Any) -> list[Line]:
        x, angle = float(state[0]), float(state[1])
        rail: Line = ((-1.8, 0.0), (1.8, 0.0), 0.03, GREY)
        cart: Line = ((x - 0.15, 0.0), (x + 0.15, 0.0), 0.12, BLUE)
        tip = x + self.pole * np.sin(angle), self.pole * np.cos(angle)
        return [rail, cart, ((x, 0.0), tip, 0.05, ORANGE)]


class CartpolePETS(CartpoleSwingup):
    """The task of PETS' cart-pole (Chua et al. 2018, section 6) for the cart of `CartpoleSwingup`: a pole of 0.6 m, 200
    steps of 0.04 s, and a reward for how near the tip is to the point a pole's length above the rail's centre. Masses
    and force are not the paper's. A return is below 200."""

    episode_length: ClassVar[int] = 200
    time_step: ClassVar[float] = 0.04
    pole: ClassVar[float] = 0.6

    def step(
        self, state: Float32[Array, "4"], action: Float32[Array, "1"], key: PRNGKeyArray
    ) -> tuple[Float32[Array, "4"], Float32[Array, ""], Float32[Array, ""]]:
        del key
        action, before = jnp.clip(action, -1.0, 1.0), self.observe(state)
        for _ in range(4):  # a hundredth of a second each
            state = self.moved(state, action[0], self.time_step / 4)
        return state, tip_reward(before, action, self.observe(state)), jnp.ones(())


# Rewards as functions of what is observed before an action, of the action, and of what is observed after it.
def pendulum_reward(
    obs: Float32[Array, "3"], action: Float32[Array, "1"], after: Float32[Array, "3"]
) -> Float32[Array, ""]:
    """The reward of `Pendulum`."""
    del after
    return -swing_cost(jnp.arctan2(obs[1], obs[0]), obs[2], 2.0 * jnp.clip(action[0], -1.0, 1.0))


def swing_cost(
    from_upright: Float32[Array, ""], velocity: Float32[Array, ""], torque: Float32[Array, ""]
) -> Float32[Array, ""]:
    return from_upright**2 + 0.1 * velocity**2 + 0.001 * torque**2


def swingup_reward(
    obs: Float32[Array, "5"], action: Float32[Array, "1"], after: Float32[Array, "5"]
) -> Float32[Array, ""]:
    """The reward of `CartpoleSwingup`: for being upright, centred and slow, and for a gentle push."""
    del obs
    position, cos, _, _, velocity = after
    upright = (cos + 1.0) / 2.0
    centred = (1.0 + 0.1 ** ((position / 2.0) ** 2)) / 2.0
    gentle = (5.0 - jnp.clip(action[0], -1.0, 1.0) ** 2) / 5.0
    slow = (1.0 + 0.1 ** ((velocity / 5.0) ** 2)) / 2.0
    return upright * centred * gentle * slow


def tip_reward(obs: Float32[Array, "5"], action: Float32[Array, "1"], after: Float32[Array, "5"]) -> Float32[Array, ""]:
    """The reward of `CartpolePETS`: exp(-(distance / pole)^2) less the action's cost."""
    del obs
    position, cos, sin = after[0], after[1], after[2]
    return jnp.exp(-((position / CartpolePETS.pole + sin) ** 2) - (cos - 1.0) ** 2) - 0.01 * action[0] ** 2


def draw(lines: list[Line], size: int = 240) -> np.ndarray:
    """The lines on white, uint8 [size, size, 3]: a pixel belongs to a line where it is near enough to it, and in part
    where the line's edge runs through it."""
    picture = np.full((size, size, 3), 255, np.float32)
    metres, pixel = np.linspace(-2.4, 2.4, size, dtype=np.float32), 4.8 / size
    for (x0, y0), (x1, y1), half_width, colour in lines:
        reach = half_width + pixel
        left, right = np.searchsorted(metres, (min(x0, x1) - reach, max(x0, x1) + reach))
        top, bottom = np.searchsorted(metres, (-max(y0, y1) - reach, reach - min(y0, y1)))
        x, y = metres[None, left:right], -metres[top:bottom, None]
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        inside = half_width - np.hypot(x - x0 - along * dx, y - y0 - along * dy)
        part = picture[top:bottom, left:right]
        part += np.clip(inside / pixel + 0.5, 0.0, 1.0)[..., None] * (np.array(colour, np.float32) - part)
    return np.rint(picture).astype(np.uint8)
