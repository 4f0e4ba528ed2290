"""Memory that is freed is kept."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from foreplan.core.machine import keep_memory

if "keep" in sys.argv:
    keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def use(size: int = int(sys.argv[1]) * 2**20) -> None:
    block = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    libc.free(block)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory asks glibc alone; elsewhere it does nothing")
def test_a_freed_block_is_used_again_without_a_page_fault() -> None:
    def faults(megabytes: int, *argument: str) -> int:
        command = [sys.executable, "-c", PROGRAM, str(megabytes), *argument]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(100) > 40  # pages of 2 MiB at most, given anew
    assert faults(100, "keep") < 10
    assert faults(10, "keep") < 10  # as glibc does by itself
