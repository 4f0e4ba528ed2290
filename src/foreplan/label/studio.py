"""Pictures of states, and looks ahead from them, by exact rollback.

OpenGL contexts belong to the thread that made them, and an environment can only be in one state at a time: so all of
this is done by one thread, one job after another.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import numpy as np
from PIL import Image

from foreplan.core.errors import RenderUnavailable
from foreplan.core.types import Snapshot, VectorEnv
from foreplan.label.visits import Policy, Visit, seconds_per_decision
from foreplan.run.randomness import Keys
from foreplan.run.state import put

T = TypeVar("T")
AHEAD_FRAMES, FILM_FRAMES = 16, 40


@dataclass(frozen=True)
class Strip:
    """A film as one picture: `frames` of equal width side by side, WebP."""

    image: bytes
    frames: int


@dataclass(frozen=True)
class Outlook:
    """What came of an action, `seconds` later."""

    strip: Strip
    value: float  # the sum of rewards
    ended: bool  # whether the episode has terminated
    seconds: float


class Studio:
    """`make` gives an environment of one copy, to draw at the height that it is called with. Every public method may be
    called from any thread, and gives a Future."""

    def __init__(self, make: Callable[[int], VectorEnv], height: int, small: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="studio")
        self._height, self._low = height, small
        self._large, self._small = (self._thread.submit(_begin, make, size).result() for size in (height, small))
        self.seconds_per_decision = seconds_per_decision(self._small)

    def frame(self, visit: Visit) -> Future[bytes]:
        """The state, large."""
        return self._thread.submit(self._frame, visit)

    def clip(self, visit: Visit) -> Future[Strip]:
        """The states just before it and itself, small."""
        return self._thread.submit(self._clip, visit)

    def ahead(
        self, policy: Policy, visit: Visit, action: np.ndarray | None, hold: int, seconds: float
    ) -> Future[Outlook]:
        """`seconds` from `visit`: `action` for `hold` decisions, then the policy; None: the policy from the first."""
        return self._thread.submit(self._ahead, policy, visit, action, hold, seconds, AHEAD_FRAMES)

    def film(self, policy: Policy, start: Visit, seconds: float) -> Future[Outlook]:
        """What `policy` does from the first state of an episode on."""
        fresh = replace(start, memory=policy.agent.memory(self._small.spec))
        return self._thread.submit(self._ahead, policy, fresh, None, 0, seconds, FILM_FRAMES)

    def close(self) -> None:
        for env in (self._large, self._small):
            self._thread.submit(env.close).result()
        self._thread.shutdown()

    def _frame(self, visit: Visit) -> bytes:
        self._large.restore(visit.snapshot)
        return encode(draw(self._large, self._height))

    def _clip(self, visit: Visit) -> Strip:
        return strip([self._picture(snapshot) for snapshot in (*visit.past, visit.snapshot)])

    def _picture(self, snapshot: Snapshot) -> np.ndarray:
        self._small.restore(snapshot)
        return draw(self._small, self._low)

    def _ahead(
        self, policy: Policy, visit: Visit, action: np.ndarray | None, hold: int, seconds: float, pictures: int
    ) -> Outlook:
        env, keys = self._small, Keys(0)  # the same keys for all that is compared
        decisions = max(1, round(seconds / self.seconds_per_decision))
        every = -(-decisions // pictures)
        env.restore(visit.snapshot)
        timestep, memory, value, ended = visit.timestep, visit.memory, 0.0, False
        frames, turn = [draw(env, self._low)], 0
        while turn < decisions and not ended:
            chosen, memory, _ = policy.agent.act(policy.learner, put(timestep), memory, keys("evaluate", turn), False)
            planned = np.asarray(jax.device_get(chosen))
            env.send(planned if action is None or turn >= hold else action[None])
            timestep, turn = env.recv(), turn + 1
            value += float(timestep.reward[0])
            ended = bool(timestep.terminated[0] or timestep.truncated[0])
            if turn % every == 0 or ended:
                frames.append(draw(env, self._low))
        return Outlook(strip(frames), value, bool(timestep.terminated[0]), turn * self.seconds_per_decision)


def _begin(make: Callable[[int], VectorEnv], height: int) -> VectorEnv:
    env = make(height)
    env.reset(0)
    return env


def draw(env: VectorEnv, height: int) -> np.ndarray:
    """The scene, no higher than `height`; grey where it cannot be drawn here: numbers can be labelled all the same."""
    try:
        picture = env.render(0)
    except RenderUnavailable:
        return np.full((height, height * 4 // 3, 3), 128, np.uint8)
    if len(picture) <= height:
        return picture
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def strip(frames: Sequence[np.ndarray]) -> Strip:
    return Strip(encode(np.concatenate(frames, axis=1)), len(frames))


def encode(picture: np.ndarray) -> bytes:
    """WebP, which every browser shows; a drawing on white without loss."""
    file = io.BytesIO()
    is_drawing = bool((picture == 255).all(axis=2).mean() > 0.5)
    options: dict[str, Any] = {"quality": 50 if is_drawing else 88, "method": 1, "lossless": is_drawing}
    Image.fromarray(picture).save(file, "webp", **options)
    return file.getvalue()
