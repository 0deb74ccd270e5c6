"""The lock that keeps a second process away from the SQLite file.

SQLite before 3.51.3 can corrupt the file when two connections write and checkpoint at once. The lock is the kernel's
(flock), so it ends with its process, however that dies.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from app.private_files import UntrustedFile, open_own, read_own
from app.store.faults import StoreBusy, StoreUnusable

LOCK_NAME = "weighbridge.lock"
NOTE_NAME = "server.json"
"""The file in which a running server says where it is."""
WAIT_FOR_ORPHANS_SECONDS = 10.0
"""How long a start waits for workers whose parent has died: they share its lock, and end within a second."""
_RETRY_SECONDS = 0.05


class StoreLock:
    """Held from acquire() until release(). The file stays; its content, a process id, is for messages only."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    async def acquire(cls, directory: Path, wait_seconds: float) -> Self:
        """Take the lock in `directory`, waiting at most so long, or a little longer for orphans.

        Raises StoreBusy, StoreUnusable and UntrustedFile.
        """
        path = directory / LOCK_NAME
        with usable(directory):
            descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            await _take(descriptor, path, wait_seconds)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Release the lock. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Turn an OSError about the directory into StoreUnusable, which names the user who needs access."""
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
    began = loop.time()
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        waits = wait_seconds if _lives(holder) else max(wait_seconds, WAIT_FOR_ORPHANS_SECONDS)
        if loop.time() - began >= waits:
            where = _address(path.parent, holder)
            who = f"process id {holder or 'unknown'}{where and f', at {where}'}"
            raise StoreBusy(
                f"{path.parent} is in use by another Weighbridge process ({who}). "
                "Stop that one, or set WEIGHBRIDGE_STATE_DIR to another directory."
            )
        await asyncio.sleep(_RETRY_SECONDS)


def _lives(process: str) -> bool:
    """Whether the process is alive. True when that is not known."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError, OverflowError):
        pass
    return True


def _address(directory: Path, process: str) -> str:
    """The URL of that process's server. Empty when it is no server, or not known."""
    try:
        note = json.loads(read_own(directory / NOTE_NAME))
        return str(note["url"]) if str(note["pid"]) == process else ""
    except (OSError, ValueError, KeyError, TypeError, UntrustedFile):
        return ""
