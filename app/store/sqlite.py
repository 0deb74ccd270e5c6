"""The SQLite form of the whole store: opened by the lifespan of the server, and by commands when no server runs."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self, TypedDict, Unpack

from app.private_files import check_own, open_own
from app.store import schema
from app.store.audit import SqlAudit
from app.store.clients import SqlClients
from app.store.faults import StoreDamaged
from app.store.health import StoreHealth
from app.store.ledger import BatchLedger
from app.store.left_calls import settle_left_calls
from app.store.lock import StoreLock, usable
from app.store.open_calls import OpenCalls
from app.store.reader import Reader
from app.store.reports import SqlReports
from app.store.sqlite_file import SqliteFile
from app.store.sqlite_reader import SqliteReader
from app.store.stats import LedgerStats
from app.store.upkeep import Maintenance
from app.store.writer import Committed, Writer

DATABASE_NAME = "weighbridge.db"
FLUSH_SECONDS = 5.0


class StoreOptions(TypedDict, total=False):
    """How a store is opened. Each may be left out.

    lock_wait_seconds  how long to wait for another process that has the store open; 0
    on_committed       called in the writer's thread with each batch of settled records that has reached the disk
    relaxed            callers go on at once, before their records are on disk; False
    retention_days     records that are older are deleted; None keeps them all
    clock              seconds, monotonic
    now                microseconds since 1970 UTC
    process            the 32-bit number at the end of this process's request ids; random
    lease_seconds      PostgreSQL: how long a process must be missing until its open calls are closed; 30
    open_calls         how many calls the table of open calls has room for; 0: nothing is served here, there is no
                       table, and no room is set aside for the spool
    """

    lock_wait_seconds: float
    on_committed: Committed | None
    relaxed: bool
    retention_days: int | None
    clock: Callable[[], float]
    now: Callable[[], int]
    process: int
    lease_seconds: float
    open_calls: int


def wall_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


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


def table_of_open_calls(state_dir: Path, slots: int) -> OpenCalls | None:
    """Settle what a killed process left in its table, and make one with so many slots. Raises StoreUnusable."""
    with usable(state_dir):
        settle_left_calls(state_dir, state_dir)
        return OpenCalls(state_dir, slots) if slots else None


def make_directory(path: Path) -> None:
    """One that exists keeps its mode: it may be a volume that others have set up."""
    with usable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


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
