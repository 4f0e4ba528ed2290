"""Minari's data sets (Farama Foundation), read from and written to the local store: `minari list local` shows them.

Its episodes are of Gymnasium spaces: Box and Discrete actions, and observations that can be flattened. What only we
know, labels and their provenance, stands in the infos `label`, `labelled`, `intervention` and `source` of each step,
and in the metadata.
"""

import dataclasses
import json
import warnings
from typing import Any

import numpy as np
from gymnasium import spaces

from foreplan.core.errors import UsageError
from foreplan.data.dataset import About, Dataset, Source, demonstration, faults, join

EXTRAS = ("label", "labelled", "intervention", "source")
METADATA = "foreplan"


def load(name: str, check: bool = True) -> Dataset:
    """Raises UsageError, which names data set, episode and field of what is wrong."""
    try:
        stored = package().load_dataset(name)
    except (FileNotFoundError, ValueError, KeyError, OSError) as error:
        raise UsageError(f"minari:{name} cannot be read: {' '.join(str(error).split())}") from None
    about = _about(name, stored)
    parts = [_episode(name, stored, episode, about) for episode in stored.iterate_episodes()]
    if not parts:
        raise UsageError(f"minari:{name} has no episode")
    data = join(parts)
    for fault in faults(data) if check else ():
        raise UsageError(f"minari:{name}, {fault}")
    return data


def _about(name: str, stored: Any) -> About:
    space = stored.action_space
    if not isinstance(space, spaces.Box | spaces.Discrete):
        raise UsageError(f"minari:{name} has {type(space).__name__} actions; accepted: Box and Discrete")
    saved = stored.storage.metadata.get(METADATA)
    if saved is not None:
        known = json.loads(saved)
        return About(**known | {"sources": tuple(Source(**source) for source in known["sources"])})
    env = getattr(stored, "env_spec", None)
    source = Source(f"minari:{name}", "expert")
    return About(f"gym/{env.id}" if env is not None else "", isinstance(space, spaces.Discrete), 1, (source,))


def _episode(name: str, stored: Any, episode: Any, about: About) -> Dataset:
    try:
        obs = _flat(stored.observation_space, episode.observations, len(episode.rewards) + 1)
        arrays = {
            "obs": obs[:-1],
            "next_obs": obs[1:],
            "action": _actions(stored.action_space, episode.actions),
            "reward": episode.rewards,
            "terminated": episode.terminations,
            "truncated": episode.truncations,
            "episode": np.full(len(episode.rewards), episode.id),
        }
        data = demonstration(about, **arrays)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UsageError(f"minari:{name}, episode {episode.id}: {' '.join(str(error).split())}") from None
    infos = episode.infos or {}
    if not all(extra in infos for extra in EXTRAS):
        return dataclasses.replace(data, intervention=np.zeros(len(data), np.bool_))
    kept: dict[str, Any] = {e: np.asarray(infos[e])[1:].astype(getattr(data, e).dtype) for e in EXTRAS}
    return dataclasses.replace(data, **kept)


def _flat(space: spaces.Space, observations: Any, rows: int) -> np.ndarray:
    """float32 [rows, obs], flattened as Gymnasium does."""
    if isinstance(space, spaces.Box):
        return np.asarray(observations, np.float32).reshape(rows, -1)

    def row(value: Any, i: int) -> Any:
        if isinstance(value, dict):
            return {key: row(item, i) for key, item in value.items()}
        return tuple(row(item, i) for item in value) if isinstance(value, tuple) else value[i]

    return np.stack([np.asarray(spaces.flatten(space, row(observations, i)), np.float32) for i in range(rows)])


def _actions(space: spaces.Space, actions: Any) -> np.ndarray:
    """In [-1, 1], or one-hot."""
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[np.asarray(actions) - int(space.start)]
    assert isinstance(space, spaces.Box)
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    raw = np.asarray(actions, np.float64).reshape(len(actions), -1)
    return (2.0 * (raw - low) / (high - low) - 1.0).astype(np.float32)


def save(name: str, data: Dataset) -> None:
    """Observations as one Box, actions in [-1, 1] or Discrete. Raises UsageError where the name is taken."""
    minari = package()
    from minari.data_collector import EpisodeBuffer

    size = data.action.shape[1]
    box = spaces.Box(-1.0, 1.0, (size,), np.float32)
    buffers = []
    for index, (_, steps) in enumerate(data.episodes()):
        infos = {extra: np.concatenate([data.arrays[extra][steps][:1], data.arrays[extra][steps]]) for extra in EXTRAS}
        actions = data.action[steps]
        buffers.append(
            EpisodeBuffer(
                id=index,
                observations=list(np.concatenate([data.obs[steps], data.next_obs[steps][-1:]])),
                actions=list(np.argmax(actions, axis=1)) if data.about.discrete else list(actions),
                rewards=data.reward[steps].tolist(),
                terminations=data.terminated[steps].tolist(),
                truncations=data.truncated[steps].tolist(),
                infos=infos,
            )
        )
    try:
        with warnings.catch_warnings():  # it wants to know of an environment: ours are named in the metadata
            warnings.simplefilter("ignore")
            stored = minari.create_dataset_from_buffers(
                name,
                buffers,
                action_space=spaces.Discrete(size) if data.about.discrete else box,
                observation_space=spaces.Box(-np.inf, np.inf, data.obs.shape[1:], np.float32),
                description="Written by foreplan.",
                algorithm_name="foreplan",
                author="unknown",
                author_email="unknown",
                code_permalink="unknown",
            )
    except ValueError as error:
        raise UsageError(f"minari:{name} cannot be written: {' '.join(str(error).split())}") from None
    stored.storage.update_metadata({METADATA: json.dumps(dataclasses.asdict(data.about))})


def exists(name: str) -> bool:
    return name in package().list_local_datasets()


def package() -> Any:
    try:
        import minari
    except ImportError as error:
        raise UsageError("minari: data sets need the package minari: pip install 'foreplan[data]'") from error
    return minari
