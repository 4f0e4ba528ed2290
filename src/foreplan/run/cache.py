"""JAX's persistent compilation cache, so that a program is compiled once a machine and not once a run."""

import os
import warnings
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own; empty for no cache
CUT_SHORT = "Error reading persistent compilation cache entry"


def use_compilation_cache() -> None:
    """Switch the cache on, in the user's cache directory unless the environment variable names another.

    JAX writes into the cache in place: whoever reads what another process is just writing, or was killed while writing,
    finds it cut short and compiles for himself, which is no reason to warn anyone.
    """
    warnings.filterwarnings("ignore", CUT_SHORT, UserWarning)
    if VARIABLE in os.environ:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "foreplan" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
