"""What is said of the processor; memory that is freed is kept."""

import platform
import subprocess
import sys

import pytest

from foreplan.core import machine

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


def test_a_processor_is_told_by_its_name_and_by_how_it_multiplies(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = "model name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu avx2 avx avx512_bf16\n\n"
    (tmp_path / "cpuinfo").write_text(2 * core)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.processor() == "Some CPU @ 2.00GHz, avx2, avx512_bf16"
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")  # not Linux
    assert machine.processor() == platform.processor()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory asks glibc alone; elsewhere it does nothing")
def test_a_freed_block_is_used_again_without_a_page_fault() -> None:
    def faults(megabytes: int, *argument: str) -> int:
        command = [sys.executable, "-c", PROGRAM, str(megabytes), *argument]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(100) > 40  # pages of 2 MiB at most, given anew
    assert faults(100, "keep") < 10
    assert faults(10, "keep") < 10  # as glibc does by itself
