"""What the fields of planners must be: each check raises `ValueError`, one line with the field that is wrong."""


def at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


def candidates(num_samples: int, num_proposals: int, num_elites: int = 1) -> None:
    if not 1 <= num_elites <= num_samples:
        raise ValueError(f"num_elites must lie in [1, num_samples], not {num_elites} of {num_samples}")
    if not 0 <= num_proposals < num_samples:
        raise ValueError(f"num_proposals must lie in [0, num_samples), not {num_proposals} of {num_samples}")


def shares(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is a share and must lie in [0, 1], not {value}")


def positive(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, not {value}")


def spread(least: float, most: float, name: str = "std") -> None:
    """The floor of a standard deviation, and where it begins or must end."""
    if not 0.0 < least <= most < float("inf"):
        raise ValueError(f"0 < min_std <= {name} must hold, not {least} and {most}")


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
