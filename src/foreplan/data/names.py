"""From a name to data, and back.

PATH.npz             one file
FOLDER               the rounds of a run of DAgger: round-000/steps.npz, ...; or a run directory that holds them
minari:ns/name-v0    a Minari data set, from the local store
"""

from pathlib import Path

from foreplan.core.errors import UsageError
from foreplan.data import npz
from foreplan.data.dataset import Dataset

MINARI = "minari:"


def load(name: str, check: bool = True, rewards: bool = True) -> Dataset:
    """The data called `name`; `check=False` lets broken episodes through, `rewards=False` those that nobody has paid.
    Raises UsageError with what is wrong."""
    if name.startswith(MINARI):
        from foreplan.data import minari

        return minari.load(name.removeprefix(MINARI), check)
    path = Path(name)
    return npz.load(path / npz.FOLDER if (path / npz.FOLDER).is_dir() else path, check, rewards)


def save(name: str, data: Dataset) -> None:
    if name.startswith(MINARI):
        from foreplan.data import minari

        minari.save(name.removeprefix(MINARI), data)
    elif name.endswith(".npz"):
        npz.save(Path(name), data)
    else:
        raise UsageError(f"data cannot be written to {name!r}; accepted: PATH.npz, {MINARI}ns/name-v0")
