"""The SQLite form of the whole store: opened by the lifespan of the server, and by commands when no server runs."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self, Unpack

from app.private_files import check_own, open_own
from app.store.audit import SqlAudit
from app.store.clients import SqlClients
from app.store.faults import StoreDamaged
from app.store.lock import StoreLock
from app.store.options import FLUSH_SECONDS, StoreOptions, wall_us
from app.store.query.reader import Reader
from app.store.query.reports import SqlReports
from app.store.sqlite import schema
from app.store.sqlite.backend import SqliteFile
from app.store.sqlite.reader import SqliteReader
from app.store.state_directory import make_directory, table_of_open_calls
from app.store.write.health import StoreHealth
from app.store.write.ledger import BatchLedger
from app.store.write.maintenance import Maintenance
from app.store.write.stats import LedgerStats
from app.store.write.writer import Writer

DATABASE_NAME = "weighbridge.db"


class SqliteStore:
    """The four storage ports on one file. Made by `open`; `close` in the end, or records may be missing."""

    def __init__(
        self, lock: StoreLock, writer: Writer, ledger: BatchLedger, reader: Reader, now: Callable[[], int]
    ) -> None:
        self.ledger = ledger
        self.clients = SqlClients(writer, reader, now)
        self.reports = SqlReports(reader)
        self.audit = SqlAudit(writer, reader)
        self._lock = lock
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, state_dir: Path, **options: Unpack[StoreOptions]) -> Self:
        """Make `state_dir` if need be, lock it, bring the schema up to date and close what a dead process left open.

        Raises StoreFault: StoreBusy when another process holds the lock, StoreUnusable, SchemaTooNew, StoreDamaged.
        """
        make_directory(state_dir)
        lock = await StoreLock.acquire(state_dir, options.get("lock_wait_seconds", 0.0))
        now = options.get("now", wall_us)
        try:
            path = state_dir / DATABASE_NAME
            _make_private(path)
            await asyncio.to_thread(schema.upgrade, path)
            open_calls = table_of_open_calls(state_dir, options.get("open_calls", 0))
            stats = LedgerStats()
            upkeep = Maintenance(options.get("retention_days"), now)
            serves = open_calls is not None
            writer = Writer(SqliteFile(path), stats, options.get("on_committed"), upkeep, reserves=serves)
            clock = options.get("clock", time.monotonic)
            relaxed = options.get("relaxed", False)
            ledger = BatchLedger(writer, stats, clock=clock, relaxed=relaxed, open_calls=open_calls)
            await _start(writer, ledger, path)
        except BaseException:
            lock.release()
            raise
        return cls(lock, writer, ledger, SqliteReader(path), now)

    def health(self) -> StoreHealth:
        """The state of the store right now. Touches no file."""
        return StoreHealth.of(self._writer, self.ledger)

    def on_changes(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Nobody else can change anything."""

    async def finish_writing(self) -> None:
        """Write what is left and let go of the lock: others may write. Reports go on, without a lock between pages."""
        if await self.ledger.close(FLUSH_SECONDS):
            self._lock.release()

    async def close(self, deadline_seconds: float = FLUSH_SECONDS) -> None:
        """Write what is left, for so long at most, and let go of the files. Harmless when done already."""
        # Reading connections go first: the last one to close tidies the files up, and must be one that may write.
        await self._reader.close()
        if await self.ledger.close(deadline_seconds):
            self._lock.release()
        # Else the thread hangs in the file system, and its lock must last as long as the process.


@contextlib.asynccontextmanager
async def open_store(state_dir: Path, **options: Unpack[StoreOptions]) -> AsyncIterator[SqliteStore]:
    """`SqliteStore.open`, closed at the end of the block."""
    store = await SqliteStore.open(state_dir, **options)
    try:
        yield store
    finally:
        await store.close()


async def upgrade_store(state_dir: Path) -> bool:
    """Make the database if need be and bring its schema up to date, as opening it would. True if that took anything.

    Raises StoreFault: StoreBusy when a process has it open, SchemaTooNew, StoreDamaged; and OSError.
    """
    make_directory(state_dir)
    lock = await StoreLock.acquire(state_dir, 0)
    try:
        path = state_dir / DATABASE_NAME
        _make_private(path)
        return await asyncio.to_thread(schema.upgrade, path)
    finally:
        lock.release()


async def _start(writer: Writer, ledger: BatchLedger, path: Path) -> None:
    try:
        await writer.start(ledger.deliver, ledger.in_flight)
    except (sqlite3.Error, OSError) as error:
        raise StoreDamaged(f"{path} cannot be opened: {error}") from error


def _make_private(path: Path) -> None:
    """Make the file, or make it private: SQLite gives the files it puts beside it the same mode. Raises UntrustedFile.

    Before any connection is open: closing a descriptor of the file would drop SQLite's locks on it.
    """
    for name in (f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        check_own(path.with_name(name))
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
