"""The SQLite form of the store: opened by the server, and by commands when no server runs."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self, Unpack

from app.private_files import check_own, open_own
from app.store.faults import StoreDamaged
from app.store.options import StoreOptions
from app.store.sqlite import schema
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.reader import SqliteReader
from app.store.store import Store, locked

DATABASE_NAME = "weighbridge.db"


class SqliteStore(Store):
    """The storage ports on one file, which no other process writes to."""

    @classmethod
    async def open(cls, state_dir: Path, **options: Unpack[StoreOptions]) -> Self:
        """Make `state_dir` if need be, lock it, bring the schema up to date and close what a dead process left open.

        Raises StoreFault: StoreBusy when another process holds the lock, StoreUnusable, SchemaTooNew, StoreDamaged.
        """
        path = state_dir / DATABASE_NAME
        async with locked(state_dir, options) as lock:
            await asyncio.to_thread(_upgrade, path)
            store = cls(lock, SqliteBackend(path), SqliteReader(path), options)
            try:
                return await store.start()
            except (sqlite3.Error, OSError) as error:
                raise StoreDamaged(f"{path} cannot be opened: {error}") from error


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
    async with locked(state_dir, {}) as lock:
        upgraded = await asyncio.to_thread(_upgrade, state_dir / DATABASE_NAME)
    lock.release()
    return upgraded


def _upgrade(path: Path) -> bool:
    _make_private(path)
    return schema.upgrade(path)


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
