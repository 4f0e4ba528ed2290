"""Every test runs under strict rules: no implicit promotion of dtype or rank, shapes checked at run time, warnings are
errors (pyproject.toml). All of it must be set before JAX or foreplan is imported."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)  # each worker of pytest-xdist keeps to its core; what runs once should compile fast
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# what one worker, or a process that a test starts, has compiled the others need not compile again
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@jax.monitoring.register_event_duration_secs_listener
def _note(event: str, duration: float, **about: str) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(about["fun_name"])


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """A compiled program takes memory maps, of which a process may have some 65,000: all tests together need more."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def compiled() -> Callable[[], list[str]]:
    """The names of the programs that were compiled since the test began, or since the last call."""
    COMPILED.clear()

    def read() -> list[str]:
        names = COMPILED.copy()
        COMPILED.clear()
        return names

    return read
