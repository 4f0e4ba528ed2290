"""What is compiled once is not compiled again, and a damaged cache is none."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import jax
from foreplan.run.cache import use_compilation_cache

use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: 3 * x)(14))
"""


def test_what_was_cut_short_in_the_cache_is_compiled_again_in_silence(tmp_path: Path) -> None:
    names = {"JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"}
    env = {name: value for name, value in os.environ.items() if name not in names} | {"XDG_CACHE_HOME": str(tmp_path)}

    def run() -> str:
        command = [sys.executable, "-W", "error::UserWarning", "-c", PROGRAM]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    assert run() == "42\n"
    entries = list((tmp_path / "foreplan" / "xla").glob("*-cache"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    assert run() == "42\n"
