"""A run that was saved: its newest whole checkpoint, evaluated and filmed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foreplan.agents.mpc import InAgent
from foreplan.core.types import Agent, Learner, LooksAhead, VectorEnv
from foreplan.envs import names
from foreplan.run import checkpoint
from foreplan.run.camera import Camera, write_video
from foreplan.run.evaluate import Evaluation, evaluate, play
from foreplan.run.settings import Settings, at_least, read_config

IMAGINED = 25  # decisions that the model looks ahead, without looking up


@dataclass(frozen=True)
class Film:
    """One episode: `arrays` is an npz file of obs, action, reward and what the model imagined of them; `video` an mp4,
    or None where the environment cannot be drawn, for the reason in `why`."""

    arrays: Path
    video: Path | None
    why: str = ""


@dataclass(frozen=True)
class Saved:
    out: Path
    agent: Agent
    settings: Settings
    parts: dict[str, Any]  # of the checkpoint: learner and clock
    make_env: Callable[..., VectorEnv]

    @classmethod
    def open(
        cls, out: Path | str, say: Callable[[str], None] = print, make_env: Callable[..., VectorEnv] = names.make
    ) -> "Saved":
        """Raises UsageError where `out` is no run directory or holds no whole checkpoint."""
        agent, settings, _ = read_config(Path(out))
        path = checkpoint.newest_whole(Path(out) / checkpoint.FOLDER, say)
        return cls(Path(out), agent, settings, checkpoint.load(path, "learner", "clock"), make_env)

    @property
    def env_steps(self) -> int:
        """Environment steps that the policy was trained for."""
        clock = self.parts["clock"]
        return clock["turns"] * clock["num_envs"] * clock["action_repeat"]

    def evaluate(self, episodes: int, seed: int = 0) -> Evaluation:
        """One episode in each of `episodes` environments."""
        at_least("episodes", episodes, 1)
        at_least("seed", seed, 0)
        env = self._env(num_envs=episodes)
        try:
            result = evaluate(self.agent, self.learner(env), env, seed)
        finally:
            env.close()
        assert result is not None  # nobody interrupts it
        return result

    def film(self, seed: int = 0) -> Film:
        """Play one episode, and write its arrays and, where it can be drawn, its video."""
        folder = self.out / "videos"
        folder.mkdir(exist_ok=True)
        arrays, video = (folder / f"step-{self.env_steps:09d}.{kind}" for kind in ("npz", "mp4"))
        env = self._env(num_envs=1, render=True)
        try:
            learner = self.learner(env)
            episode, camera = _record(self.agent, learner, env, seed)
        finally:
            env.close()
        contents: dict[str, Any] = episode | _imagined(self.agent, learner, episode)
        np.savez_compressed(arrays, **contents)
        if not camera.frames:
            return Film(arrays, None, camera.why)
        write_video(video, camera.frames)
        return Film(arrays, video)

    def _env(self, **options: Any) -> VectorEnv:
        return self.make_env(self.settings.env, action_repeat=self.settings.action_repeat, **options)

    def learner(self, env: VectorEnv) -> Learner:
        return checkpoint.learner_of(self.agent, env.spec, self.parts)


def _record(agent: Agent, learner: Learner, env: VectorEnv, seed: int) -> tuple[dict[str, np.ndarray], Camera]:
    """One episode: obs [decision, obs], action [decision, action], reward [decision]."""
    obs, actions, rewards, camera = [], [], [], Camera()
    for timestep, action, after in play(agent, learner, env, seed):
        obs.append(np.asarray(timestep.obs[0]))
        actions.append(action[0])
        rewards.append(np.asarray(after.reward[0]))
        camera.shoot(env)
        if after.terminated[0] or after.truncated[0] or len(rewards) == 1000:
            break
    return {"obs": np.stack(obs), "action": np.stack(actions), "reward": np.stack(rewards)}, camera


def _imagined(agent: Any, learner: Learner, episode: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model foretells of the episode, every IMAGINED decisions anew; nothing if the agent has no model.

    The names of what `agent.imagine` returns, or of what is foretold by the model in which it looks ahead, each with
    "imagined_" before it: [decisions foretold, ...].
    """
    if hasattr(agent, "imagine"):
        imagine = agent.imagine
    elif isinstance(agent, LooksAhead):
        imagine = InAgent(agent).imagine
    else:
        return {}
    starts = range(0, len(episode["reward"]) - IMAGINED + 1, IMAGINED)
    segments = [imagine(learner, episode["obs"][t], episode["action"][t : t + IMAGINED]) for t in starts]
    if not segments:
        return {}
    foretold = {f"imagined_{name}": np.concatenate([np.asarray(s[name]) for s in segments]) for name in segments[0]}
    return foretold | {"imagined_every": np.array(IMAGINED)}
