"""The PostgreSQL form of the whole store."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, Unpack

from app.store.audit import SqlAudit
from app.store.clients import SqlClients
from app.store.faults import StoreFault
from app.store.lock import StoreLock
from app.store.options import FLUSH_SECONDS, StoreOptions, wall_us
from app.store.postgres import schema
from app.store.postgres.address import PostgresAddress
from app.store.postgres.backend import PostgresPlace
from app.store.postgres.changes import Changes
from app.store.postgres.connection import Trouble
from app.store.postgres.presence import LEASE_SECONDS
from app.store.postgres.reader import PostgresReader
from app.store.query.reports import SqlReports
from app.store.spool.orphaned_spools import inherit
from app.store.state_directory import make_directory, table_of_open_calls
from app.store.write.health import StoreHealth
from app.store.write.ledger import BatchLedger
from app.store.write.maintenance import Maintenance
from app.store.write.stats import LedgerStats
from app.store.write.writer import Writer

LOG = logging.getLogger(__name__)

START_SECONDS = 10.0
"""So long a start waits for a server that is not there yet."""
_RETRY_SECONDS = 0.5


class PostgresStore:
    """The four storage ports on a database that other processes use as well. Made by `open`; `close` in the end."""

    def __init__(
        self, lock: StoreLock, writer: Writer, ledger: BatchLedger, address: PostgresAddress, now: Callable[[], int]
    ) -> None:
        self._reader = PostgresReader(address)
        self.ledger = ledger
        self.clients = SqlClients(writer, self._reader, now)
        self.reports = SqlReports(self._reader)
        self.audit = SqlAudit(writer, self._reader)
        self._lock = lock
        self._writer = writer
        self._address = address
        self._changes: Changes | None = None

    @classmethod
    async def open(cls, url: str, state_dir: Path, **options: Unpack[StoreOptions]) -> Self:
        """Lock `state_dir`, bring the schema up to date, replay the spool there; close what dead processes left open.

        Raises StoreFault: StoreBusy when another process holds the directory, SchemaTooNew; and OSError.
        """
        address = PostgresAddress(url)
        make_directory(state_dir)
        lock = await StoreLock.acquire(state_dir, options.get("lock_wait_seconds", 0.0))
        now = options.get("now", wall_us)
        process = options.get("process", secrets.randbits(32))
        try:
            inherit(state_dir, state_dir, keep=0)
            await reach(address)
            open_calls = table_of_open_calls(state_dir, options.get("open_calls", 0))
            stats = LedgerStats()
            place = PostgresPlace(address, state_dir, process, options.get("lease_seconds", LEASE_SECONDS))
            upkeep = Maintenance(options.get("retention_days"), now)
            serves = open_calls is not None
            writer = Writer(place, stats, options.get("on_committed"), upkeep, reserves=serves)
            clock = options.get("clock", time.monotonic)
            relaxed = options.get("relaxed", False)
            ledger = BatchLedger(writer, stats, clock=clock, relaxed=relaxed, open_calls=open_calls)
            await _start(writer, ledger)
        except BaseException:
            lock.release()
            raise
        return cls(lock, writer, ledger, address, now)

    def health(self) -> StoreHealth:
        """The state of the store right now. Asks nobody."""
        return StoreHealth.of(self._writer, self.ledger)

    def on_changes(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` soon, and within a second whenever clients or keys have changed, here or elsewhere."""
        self._changes = Changes(self._address, changed)
        self._changes.start()

    async def finish_writing(self) -> None:
        """As the other form's."""
        if await self.ledger.close(FLUSH_SECONDS):
            self._lock.release()

    async def close(self, deadline_seconds: float = FLUSH_SECONDS) -> None:
        """Write what is left, for so long at most, and let go of the connections. Harmless when done already."""
        if self._changes is not None:
            await self._changes.close()
        await self._reader.close()
        if await self.ledger.close(deadline_seconds):
            self._lock.release()


async def reach(address: PostgresAddress) -> bool:
    """Bring the schema up to date, once the server answers. True if that took anything. Raises StoreFault."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await asyncio.to_thread(schema.upgrade, address)
        except schema.NotReached as fault:
            if time.monotonic() >= deadline:
                raise
            LOG.warning("%s; trying again", fault)
        await asyncio.sleep(_RETRY_SECONDS)


async def _start(writer: Writer, ledger: BatchLedger) -> None:
    try:
        await writer.start(ledger.deliver, ledger.in_flight)
    except (Trouble, OSError) as error:
        raise StoreFault(str(error)) from error
