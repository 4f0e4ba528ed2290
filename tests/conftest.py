"""Every test runs under strict rules: no implicit promotion of dtype or rank, shapes checked at run time, warnings are
errors (pyproject.toml). All of it must be set before JAX or foreplan is imported."""

import os
from collections.abc import Callable

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false"
)  # each worker of pytest-xdist keeps to its core
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import jaxtyping
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jaxtyping.install_import_hook("foreplan", "beartype.beartype")
settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
settings.load_profile("reproducible")

COMPILED: list[str] = []


@jax.monitoring.register_event_duration_secs_listener
def _note(event: str, duration: float, **about: str) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(about["fun_name"])


@pytest.fixture
def compiled() -> Callable[[], list[str]]:
    """The names of the programs that were compiled since the test began, or since the last call."""
    COMPILED.clear()

    def read() -> list[str]:
        names = COMPILED.copy()
        COMPILED.clear()
        return names

    return read
