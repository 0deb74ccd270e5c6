"""Hardening of the running process: the keys leave its environment, and nobody else may look into its memory."""

import ctypes
import os
import sys
from collections.abc import Iterable

_PR_SET_DUMPABLE = 4


def scrub_environment(names: Iterable[str]) -> None:
    """Take variables out of the environment; on Linux also overwrite their values where the process began.

    Unsetting alone leaves the bytes in place, and /proc/PID/environ shows them for as long as the process runs.
    To be called once the settings are read, before harden_process() and before there are threads.
    """
    names = tuple(names)
    if sys.platform == "linux":
        _overwrite({os.fsencode(name) for name in names})
    for name in names:
        os.environ.pop(name, None)


def harden_process() -> tuple[str, ...]:
    """No core dumps, no reading of our memory by other processes of the user, and new files are ours alone.

    Returns the measures that the system refused, for the log; the server can run without them.
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
    """Zero the values in place. Walks `environ` itself, since getenv() finds only the first of a doubled name."""
    start = ctypes.c_void_p.in_dll(_libc(), "environ").value
    if start is None:  # an environment that was cleared
        return
    entries = ctypes.cast(start, ctypes.POINTER(ctypes.c_void_p))
    index = 0
    while (address := entries[index]) is not None:
        name, equals, value = ctypes.string_at(address).partition(b"=")
        if equals and name in names:
            ctypes.memset(address + len(name) + 1, 0, len(value))
        index += 1
