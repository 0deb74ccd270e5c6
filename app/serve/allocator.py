"""The C library's allocator, told to give back what it need not keep.

glibc keeps a heap for every few threads, and raises, with each large block that is freed, the size from which blocks go
back to the system: after a day of large bodies a process holds tens of megabytes of holes. Elsewhere nothing is done.
"""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)

SETTINGS = {_ARENA_MAX: 2, _MMAP_THRESHOLD: 4 * 1024**2, _TRIM_THRESHOLD: 8 * 1024**2}


def settle_allocator() -> bool:
    """Set it up, before there are threads. Whether the C library took it."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(what, value) == 1 for what, value in SETTINGS.items())
    return False
