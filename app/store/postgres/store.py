"""The PostgreSQL form of the store, on a database that other processes use as well."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, Unpack

from app.store.faults import StoreFault
from app.store.options import FLUSH_SECONDS, StoreOptions
from app.store.postgres import schema
from app.store.postgres.address import PostgresAddress
from app.store.postgres.backend import PostgresBackend
from app.store.postgres.changes import Changes
from app.store.postgres.connection import Trouble
from app.store.postgres.presence import LEASE_SECONDS
from app.store.postgres.reader import PostgresReader
from app.store.spool.orphaned_spools import inherit
from app.store.store import Store, locked

LOG = logging.getLogger(__name__)

START_SECONDS = 10.0
"""How long a start waits for a server that is not there yet."""
_RETRY_SECONDS = 0.5


class PostgresStore(Store):
    """The storage ports on a PostgreSQL server."""

    _address: PostgresAddress
    _changes: Changes | None = None

    @classmethod
    async def open(cls, url: str, state_dir: Path, **options: Unpack[StoreOptions]) -> Self:
        """Lock `state_dir`, bring the schema up to date, replay the spool there; close what dead processes left open.

        Raises StoreFault: StoreBusy when another process holds the directory, SchemaTooNew; and OSError.
        """
        address = PostgresAddress(url)
        process = options.get("process", secrets.randbits(32))
        backend = PostgresBackend(address, state_dir, process, options.get("lease_seconds", LEASE_SECONDS))
        async with locked(state_dir, options) as lock:
            inherit(state_dir, state_dir, keep=0)
            await reach(address)
            store = cls(lock, backend, PostgresReader(address), options)
            store._address = address
            try:
                return await store.start()
            except (Trouble, OSError) as error:
                raise StoreFault(str(error)) from error

    def on_changes(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` soon, and within a second whenever clients or keys have changed, here or elsewhere."""
        self._changes = Changes(self._address, changed)
        self._changes.start()

    async def close(self, deadline_seconds: float = FLUSH_SECONDS) -> None:
        """As every store; and stop listening for changes."""
        if self._changes is not None:
            await self._changes.close()
        await super().close(deadline_seconds)


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
