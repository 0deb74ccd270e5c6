"""Tunes glibc's allocator to return free memory to the system.

By default glibc keeps many heaps, and with each large block that is freed it raises the size from which blocks are
returned: after a day of large bodies a process holds tens of megabytes of free memory. Nothing is done on other C
libraries.
"""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)

SETTINGS = {_ARENA_MAX: 2, _MMAP_THRESHOLD: 4 * 1024**2, _TRIM_THRESHOLD: 8 * 1024**2}


def settle_allocator() -> bool:
    """Tune the allocator, before there are threads. Returns whether the C library accepted it."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(what, value) == 1 for what, value in SETTINGS.items())
    return False
