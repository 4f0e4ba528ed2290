"""What goes wrong in ways that a user can mend: one clear line each."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad input, refused before anything is built. Its message is one line: what was wrong and what is accepted."""


class Diverged(RuntimeError):
    """What is learned no longer gives numbers; nothing is saved over the last checkpoint."""


class RenderUnavailable(RuntimeError):
    """This machine or this environment cannot draw a picture."""


class EnvError(RuntimeError):
    """An environment broke its contract.

    `env` is its name, `index` its place in the vector environment, `step` the decision of the running episode (0 is
    the reset), `field` what was wrong ("obs position[2]", "reward", "step", ...).
    """

    def __init__(self, env: str, index: int, step: int, field: str, detail: str) -> None:
        super().__init__(env, index, step, field, detail)  # all arguments, so that it survives a pipe
        self.env, self.index, self.step, self.field, self.detail = env, index, step, field, detail

    def __str__(self) -> str:
        return f"{self.env}: environment {self.index}, step {self.step} of its episode, {self.field}: {self.detail}"


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None where none is alike."""
    lowered = {option.lower(): option for option in options}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    return lowered[matches[0]] if matches else None


def unknown(kind: str, name: str, options: Iterable[str], hint: str = "") -> UsageError:
    """A `UsageError` for a name that does not exist, with the nearest one that does."""
    options = list(options)
    match = nearest(name, options)
    mean = f"; did you mean {match!r}?" if match else ""
    accepted = hint or (f"accepted: {', '.join(sorted(options))}" if len(options) <= 20 else "")
    return UsageError(f"unknown {kind} {name!r}{mean}" + (f" ({accepted})" if accepted else ""))
