"""The lock that keeps a second process away from the SQLite file.

Two writing processes are not only slow: SQLite before 3.51.3 can corrupt the file when two connections write and
checkpoint at once. The lock is the kernel's (flock), so it ends with its process, however that dies.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from app.store.faults import StoreBusy, StoreUnusable

LOCK_NAME = "weighbridge.lock"
_RETRY_SECONDS = 0.05


class StoreLock:
    """Held from acquire() until release(). The file stays; its content, a process id, is for messages only."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    async def acquire(cls, directory: Path, wait_seconds: float) -> Self:
        """Take the lock in `directory`, waiting at most so long. Raises StoreBusy and StoreUnusable."""
        path = directory / LOCK_NAME
        with usable(directory):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await _take(descriptor, path, wait_seconds)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let go. Harmless when done already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Turn what the system says about the directory into StoreUnusable, which names who would have to be let in."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        whose = f"it must be writable for user id {os.getuid()}"
        raise StoreUnusable(f"the state directory {directory} cannot be used: {why} ({whose})") from None


def held_since(directory: Path) -> int:
    """When the lock was last taken: microseconds since 1970 UTC. Raises OSError when it never was."""
    return (directory / LOCK_NAME).stat().st_mtime_ns // 1000


async def _take(descriptor: int, path: Path, wait_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if loop.time() >= deadline:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreBusy(f"{path.parent} is in use by another Weighbridge process (process id {holder})")
        await asyncio.sleep(_RETRY_SECONDS)
