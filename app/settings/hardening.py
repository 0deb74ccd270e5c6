"""Hardens the running process: removes keys from its environment, and closes its memory to other processes."""

import ctypes
import os
import sys
from collections.abc import Iterable

_PR_SET_DUMPABLE = 4


def scrub_environment(names: Iterable[str]) -> None:
    """Remove variables from the environment. On Linux, also overwrite their values in the process's first environment.

    Unsetting alone leaves the bytes in memory, and /proc/PID/environ shows them as long as the process runs.
    Call this once the settings are read, before harden_process() and before there are threads.
    """
    names = tuple(names)
    if sys.platform == "linux":
        _overwrite({os.fsencode(name) for name in names})
    for name in names:
        os.environ.pop(name, None)


def harden_process() -> tuple[str, ...]:
    """Switch off core dumps and access to our memory by other processes of the user, and make new files private.

    Returns the measures that the system refused, for the log. The server can run without them.
    """
    refused: list[str] = []
    os.umask(0o077)
    if not _without_core_dumps():
        refused.append("core dumps are not switched off")
    if sys.platform == "linux" and _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        refused.append("the process's memory is not closed to other processes of the same user")
    return tuple(refused)


def _without_core_dumps() -> bool:
    try:
        import resource
    except ImportError:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _overwrite(names: set[bytes]) -> None:
    """Zero the values in place. Searches `environ` itself, since getenv() finds only the first of two equal names."""
    start = ctypes.c_void_p.in_dll(_libc(), "environ").value
    if start is None:  # the environment was cleared
        return
    entries = ctypes.cast(start, ctypes.POINTER(ctypes.c_void_p))
    index = 0
    while (address := entries[index]) is not None:
        name, equals, value = ctypes.string_at(address).partition(b"=")
        if equals and name in names:
            ctypes.memset(address + len(name) + 1, 0, len(value))
        index += 1
