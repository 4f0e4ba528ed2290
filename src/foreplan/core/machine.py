"""What this machine lets a process have."""

import contextlib
import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
KEPT = 256 * 2**20  # bytes


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> None:
    """Let glibc keep what is freed for the next who asks, up to blocks of `KEPT` and twice that in all.

    XLA asks for all intermediate results of a program anew at each call. By default whatever is too large comes from
    the kernel, which clears it page by page, and goes back after: a fifth of an update of a network of five million
    parameters. One arena, for others cannot hold such blocks; a thread that has one keeps it, so call this early. Other
    allocators are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):  # musl has no such thing
        for option, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, KEPT), (TRIM_THRESHOLD, 2 * KEPT)):
            ctypes.CDLL(None).mallopt(option, value)
