"""The store: the four storage ports over one database."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.store.audit import SqlAudit
from app.store.clients import SqlClients
from app.store.lock import StoreLock
from app.store.options import FLUSH_SECONDS, StoreOptions, wall_us
from app.store.query.reader import Reader
from app.store.query.reports import SqlReports
from app.store.state_directory import make_directory, table_of_open_calls
from app.store.write.backend import Backend
from app.store.write.health import StoreHealth
from app.store.write.ledger import BatchLedger
from app.store.write.maintenance import Maintenance
from app.store.write.stats import LedgerStats
from app.store.write.writer import Writer


class Store:
    """Each form has an `open`. Call `close` in the end, or records may be missing."""

    def __init__(self, lock: StoreLock, backend: Backend, reader: Reader, options: StoreOptions) -> None:
        """Settle what a killed process has left in its table of open calls. Raises StoreUnusable.

        `lock` is the lock of the backend's state directory.
        """
        now = options.get("now", wall_us)
        open_calls = table_of_open_calls(backend.state_dir, options.get("open_calls", 0))
        stats = LedgerStats()
        maintenance = Maintenance(options.get("retention_days"), now)
        serves = open_calls is not None
        self._writer = Writer(backend, stats, options.get("on_committed"), maintenance, reserves=serves)
        self.ledger = BatchLedger(
            self._writer,
            stats,
            clock=options.get("clock", time.monotonic),
            relaxed=options.get("relaxed", False),
            open_calls=open_calls,
        )
        self.clients = SqlClients(self._writer, reader, now)
        self.reports = SqlReports(reader)
        self.audit = SqlAudit(self._writer, reader)
        self._lock = lock
        self._reader = reader

    async def start(self) -> Self:
        """Connect, replay the spool, close what ended processes have left open. Raises what the driver raises."""
        await self._writer.start(self.ledger.deliver, self.ledger.in_flight)
        return self

    def health(self) -> StoreHealth:
        """The state of the store right now. Touches no file and asks nobody."""
        return StoreHealth.of(self._writer, self.ledger)

    def on_changes(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` soon after other processes have changed clients or keys, if there can be others."""

    async def finish_writing(self) -> None:
        """Write what is left and release the lock, so that others may write. Reports go on; they take no lock."""
        if await self.ledger.close(FLUSH_SECONDS):
            self._lock.release()

    async def close(self, deadline_seconds: float = FLUSH_SECONDS) -> None:
        """Write what is left, for so long at most, and close all files and connections. May be called again."""
        # Reading connections go first: SQLite's last connection tidies the files up, and must be one that may write.
        await self._reader.close()
        if await self.ledger.close(deadline_seconds):
            self._lock.release()
        # Else the writer's thread hangs in the file system, and its lock must last as long as the process.


@asynccontextmanager
async def locked(state_dir: Path, options: StoreOptions) -> AsyncIterator[StoreLock]:
    """Make the directory if need be, and lock it. When the block raises, the lock is released.

    Raises StoreBusy when another process holds the lock, StoreUnusable and UntrustedFile.
    """
    make_directory(state_dir)
    lock = await StoreLock.acquire(state_dir, options.get("lock_wait_seconds", 0.0))
    try:
        yield lock
    except BaseException:
        lock.release()
        raise
