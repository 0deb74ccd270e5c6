"""The writing connection to the SQLite file."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.store.schema.rows import Row, mended
from app.store.schema.sql import Result
from app.store.sqlite.dialect import compiled
from app.store.write import statements
from app.store.write.backend import Access

BUSY_MILLISECONDS = 250
"""How long a commit waits for a lock that should not be there. Then the batch goes to the spool."""

# `synchronous=FULL`: a commit survives a power cut. The WAL is cut back after a large transaction. Nothing is mapped
# into memory, where an I/O error would end the process.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA journal_size_limit=67108864",
)


class Misplaced(OSError):
    """The open file is not the one at its path: what is written to it would be lost."""


class SqliteWriteConnection:
    """The SQLite form of a WriteConnection. Raises sqlite3.Error or OSError."""

    def __init__(self, path: Path) -> None:
        """Open the file, which must exist and be up to date."""
        self._path = path
        self._uri = f"{path.absolute().as_uri()}?mode=rw"
        self._put = compiled(statements.put(sqlite.insert)).text
        self._connection = _connect(self._uri, BUSY_MILLISECONDS)
        self._identity = _identity(path)

    @contextlib.contextmanager
    def transaction(self, access: Access) -> Iterator[bool]:
        """A transaction that only reads needs no lock, and works while others hold it."""
        if access is Access.CHANGE:
            self.check_place()
        connection = self._connection
        connection.execute("BEGIN" if access is Access.READ else "BEGIN IMMEDIATE")
        try:
            yield True
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def execute(self, text: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement."""
        cursor = self._connection.execute(text, values)
        return Result(cursor.rowcount, cursor.fetchall())

    def execute_many(self, text: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement with many sets of values."""
        self._connection.executemany(text, values)

    def put_all(self, rows: Sequence[Row]) -> int:
        """Write rows."""
        return self._connection.executemany(self._put, rows).rowcount

    def put_one(self, row: Row) -> int:
        """Write one row."""
        return self._connection.execute(self._put, row).rowcount

    def storable(self, row: Row) -> Row:
        """The row, such that any database takes it."""
        return mended(row)

    def exclude_writers(self) -> None:
        """Nothing to do: a transaction that writes is alone."""

    def left_open(self) -> sa.ColumnElement[bool]:
        """All: no other process writes to this file."""
        return sa.true()

    def watch(self) -> None:
        """Raises Misplaced."""
        self.check_place()

    def check_place(self) -> None:
        """Raises Misplaced when somebody has deleted, moved or replaced the file. Costs one look at the directory."""
        try:
            identity = _identity(self._path)
        except FileNotFoundError:
            raise Misplaced("the database file is gone") from None
        if identity != self._identity:
            raise Misplaced("the database file was replaced while in use: restart Weighbridge")

    def wait_for_locks(self, *, patiently: bool) -> None:
        """For BUSY_MILLISECONDS, or not at all."""
        with contextlib.suppress(sqlite3.Error):  # a connection that is good for nothing will be replaced
            self._connection.execute("PRAGMA busy_timeout=250" if patiently else "PRAGMA busy_timeout=0")

    def reopen(self) -> None:
        """A file system that went away and came back leaves the old connection useless.

        When there is no database to open, or another one, this raises and keeps the old connection: SQLite would take
        our log, which stands beside the file, for the log of that other database.
        """
        self.check_place()
        fresh = _connect(self._uri, 0)
        self.close()
        self._connection = fresh
        fresh.execute("BEGIN IMMEDIATE")
        fresh.execute("ROLLBACK")

    def close(self) -> None:
        """The last connection to close folds the WAL into the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _connect(uri: str, wait_milliseconds: int) -> sqlite3.Connection:
    # The driver looks for an adapter for each None and each bool: without one that costs a microsecond each.
    sqlite3.register_adapter(type(None), lambda _: None)
    sqlite3.register_adapter(bool, int)
    connection = sqlite3.connect(uri, uri=True, timeout=wait_milliseconds / 1000, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()  # by name: to open and close the file would drop SQLite's locks on it
    return found.st_dev, found.st_ino
