"""JAX's persistent compilation cache, so that a program is compiled once a machine and not once a run."""

import os
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own; empty for no cache


def use_compilation_cache() -> None:
    """Switch the cache on, in the user's cache directory unless the environment variable names another."""
    if VARIABLE in os.environ:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "foreplan" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
