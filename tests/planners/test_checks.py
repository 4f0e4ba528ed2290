"""What a planner's fields may not be: one clear line."""

import dataclasses
from typing import Any

import pytest

from foreplan.planners.cem import CEM
from foreplan.planners.gradient import Gradient
from foreplan.planners.icem import ICEM
from foreplan.planners.ilqr import ILQR
from foreplan.planners.mppi import MPPI
from foreplan.planners.random_shooting import RandomShooting


@pytest.mark.parametrize(
    ("planner", "wrong", "said"),
    [
        (ICEM(), {"horizon": 0}, "horizon must be at least 1, not 0"),
        (CEM(), {"iterations": 0}, "iterations must be at least 1"),
        (ICEM(), {"num_elites": 65}, "num_elites must lie in [1, num_samples], not 65 of 64"),
        (MPPI(), {"num_proposals": 512}, "num_proposals must lie in [0, num_samples)"),
        (RandomShooting(), {"num_proposals": -1}, "num_proposals must lie in"),
        (ICEM(), {"kept": 1.5}, "kept is a share"),
        (CEM(), {"min_std": 0.0}, "0 < min_std <= std must hold"),
        (CEM(), {"min_std": float("nan")}, "0 < min_std <= std must hold"),
        (MPPI(), {"max_std": float("inf")}, "0 < min_std <= max_std must hold"),
        (MPPI(), {"temperature": 0.0}, "temperature must be positive"),
        (ICEM(), {"decay": 0.5}, "decay must be at least 1"),
        (ILQR(), {"damping": 0.0}, "damping must be positive"),
        (Gradient(), {"lr": -1.0}, "lr must be positive"),
    ],
)
def test_bad_fields_are_refused(planner: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"must|share") as refused:
        dataclasses.replace(planner, **wrong)
    assert said in str(refused.value)
