"""What this machine lets a process have."""

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # Linux
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # that decide how XLA multiplies, and so how it rounds
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
LARGEST = 256 * 2**20  # bytes of a block that is kept


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its name and those of `INSTRUCTIONS` that it has, as far as the system says: a run repeats itself bit for bit on
    processors of one kind alone."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    known = [name for name in INSTRUCTIONS if name in said.get("flags", "").split()]
    return ", ".join([said.get("model name", platform.processor()), *known])


def memory() -> int:
    """Bytes of it in all; 2^63 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 2**63


def keep_memory() -> None:
    """Let glibc keep what is freed for the next who asks, instead of giving it back to the kernel.

    XLA asks for all intermediate results of a program anew at each call. By default a block of more than 32 MB comes
    from the kernel, which clears it page by page: a quarter or more of an update of a million parameters. All three
    limits, for to set one ends what glibc does by itself, and smaller blocks would then go back, too. Other allocators
    are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):  # musl has no such thing
        for option, value in ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, 2 * LARGEST), (TOP_PAD, LARGEST // 4)):
            ctypes.CDLL(None).mallopt(option, value)
