"""From a name to data, and back.

PATH.npz             one file
FOLDER               the rounds of a run of DAgger: round-000/steps.npz, ...; or a run directory that holds them
minari:ns/name-v0    a Minari data set, from the local store
lerobot:FOLDER       a LeRobot data set, written only
"""

from pathlib import Path

from foreplan.core.errors import UsageError
from foreplan.data import npz
from foreplan.data.dataset import Dataset

MINARI = "minari:"
LEROBOT = "lerobot:"


def load(name: str, check: bool = True, rewards: bool = True) -> Dataset:
    """The data called `name`; `check=False` lets broken episodes through, `rewards=False` those that nobody has paid.
    Raises UsageError with what is wrong."""
    if name.startswith(MINARI):
        from foreplan.data import minari

        return minari.load(name.removeprefix(MINARI), check)
    if name.startswith(LEROBOT):
        raise UsageError(
            f"{name} cannot be read: lerobot: data are only written; they lack each episode's last observation"
        )
    path = Path(name)
    return npz.load(path / npz.FOLDER if (path / npz.FOLDER).is_dir() else path, check, rewards)


def check_free(name: str) -> None:
    """Raise UsageError where nothing can be written under this name, or something is there already: what takes hours to
    record is neither lost in the end nor lost to something else."""
    if name.startswith(MINARI):
        from foreplan.data import minari

        there = minari.exists(name.removeprefix(MINARI))
    elif name.startswith(LEROBOT):
        from foreplan.data import lerobot

        lerobot.package()
        there = Path(name.removeprefix(LEROBOT)).exists()
    elif name.endswith(".npz"):
        there = Path(name).exists()
    else:
        accepted = f"PATH.npz, {MINARI}ns/name-v0, {LEROBOT}FOLDER"
        raise UsageError(f"data cannot be written to {name!r}; accepted: {accepted}")
    if there:
        raise UsageError(f"{name} cannot be written: it is there already")


def save(name: str, data: Dataset, fps: int | None = None) -> None:
    """`fps`, decisions a second, is for LeRobot's timestamps. Raises UsageError where data cannot be written there."""
    if fps is not None and not name.startswith(LEROBOT):
        raise UsageError(f"fps is {fps}, but only {LEROBOT} data have timestamps, not {name!r}")
    check_free(name)
    if name.startswith(MINARI):
        from foreplan.data import minari

        minari.save(name.removeprefix(MINARI), data)
    elif name.startswith(LEROBOT):
        from foreplan.data import lerobot

        lerobot.save(Path(name.removeprefix(LEROBOT)), data, lerobot.FPS if fps is None else fps)
    else:
        npz.save(Path(name), data)
