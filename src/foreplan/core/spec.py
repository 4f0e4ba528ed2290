"""What can be said of an environment without JAX, so that worker processes need not import it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Snapshot = Mapping[str, Any]  # nested dicts of NumPy arrays and JSON values: what a checkpoint can hold without pickle
Exactness = Literal["bitwise", "physics", "replay"]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment before its first step. Actions live in [-1, 1]^action_dim; where they
    are discrete, an action is the one-hot vector of its number, and `action_dim` the number of actions."""

    obs_shape: tuple[int, ...]
    action_dim: int
    num_envs: int = 1
    action_repeat: int = 1  # environment steps a decision
    episode_length: int | None = None  # decisions until truncation; None where it is not known
    terminates: bool = True  # False only where an episode can never end but by truncation
    discrete: bool = False

    def seed_steps(self, least: int, episodes: int) -> int:
        """Decisions at random before learning: `least`, or as many as `episodes` whole ones have, if that is more."""
        return max(least, episodes * (self.episode_length or 0))
