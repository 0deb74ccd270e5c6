"""The one writing connection to the SQLite file. It belongs to the writer's thread, which opens, uses and closes it."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from app.domain.records import Record
from app.store import statements
from app.store.rows import Row, mended, row_of

LOG = logging.getLogger(__name__)

BUSY_MILLISECONDS = 250
"""How long a commit waits for a lock that should not be there. Callers are let go when it has passed."""

# `synchronous=FULL`: a commit survives a power cut. The WAL is cut back after a large transaction; nothing is mapped
# into memory, where an I/O error would kill the process.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA journal_size_limit=67108864",
)


class Statement(NamedTuple):
    """SQL text for the driver, with its values in order."""

    text: str
    values: tuple[Any, ...]


class Result(NamedTuple):
    """What a statement did: rows changed, or rows read."""

    rowcount: int
    rows: list[tuple[Any, ...]]


def compiled(statement: sa.ClauseElement) -> Statement:
    """The statement in SQLite's words, for the plain driver."""
    dialect = sqlite.dialect(paramstyle="qmark")
    form = statement.compile(dialect=dialect)
    assert isinstance(form, SQLCompiler)  # noqa: S101 - what SQL compiles to; tells the type checker of `positiontup`
    return Statement(form.string, tuple(form.params[name] for name in form.positiontup or ()))


class Database:
    """Writes records, many to a transaction, with statements compiled once."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=rw"
        self._settle = compiled(statements.settle(sqlite.insert)).text
        self._admit = compiled(statements.admit(sqlite.insert)).text
        self._connection = _connect(self._uri)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, which must be there and up to date, and close what an earlier process left open.

        Raises sqlite3.Error.
        """
        database = cls(path)
        try:
            interrupted = database.run([compiled(statements.close_interrupted())])[0].rowcount
        except BaseException:
            database.close()
            raise
        if interrupted:
            LOG.warning("%d calls were still open when the last process ended; now closed as interrupted", interrupted)
        return database

    def write(self, open_rows: Sequence[Row], settled: Sequence[Record]) -> int:
        """Commit rows of calls still open and settled records. Gives how many records no database would take.

        Raises sqlite3.Error or OSError when storage is in trouble; then nothing is written.
        """
        try:
            with self._transaction() as connection:
                if open_rows:
                    connection.executemany(self._admit, open_rows)
                connection.executemany(self._settle, map(row_of, settled))
        except (sqlite3.OperationalError, sqlite3.InternalError, OSError, MemoryError):
            raise
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:  # a damaged file
                raise
        except (ValueError, OverflowError, TypeError):  # a lone surrogate is a ValueError
            pass
        else:
            return 0
        return self._write_one_by_one(open_rows, settled)

    def run(self, batch: Sequence[Statement]) -> list[Result]:
        """Run statements in one transaction of their own. Raises sqlite3.Error; then none of them has happened."""
        results = []
        with self._transaction() as connection:
            for statement in batch:
                cursor = connection.execute(statement.text, statement.values)
                results.append(Result(cursor.rowcount, cursor.fetchall()))
        return results

    def reopen(self) -> None:
        """Take a fresh connection: a file system that went away and came back leaves the old one useless.

        Raises sqlite3.Error and keeps the old one when there is no database to open.
        """
        fresh = _connect(self._uri)
        self.close()
        self._connection = fresh

    def close(self) -> None:
        """The last connection to close folds the WAL into the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def _write_one_by_one(self, open_rows: Sequence[Row], settled: Sequence[Record]) -> int:
        """Some value cannot be stored as it is: write each row mended, and leave out what even so is refused."""
        unwritable = 0
        with self._transaction() as connection:
            for row in open_rows:
                _write_mended(connection, self._admit, row)
            for record in settled:
                unwritable += not _write_mended(connection, self._settle, row_of(record))
        return unwritable


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_mended(connection: sqlite3.Connection, statement: str, row: Row) -> bool:
    try:
        connection.execute(statement, mended(row))
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
        LOG.error("The record of %s cannot be stored: %s", row[0], type(error).__name__)  # noqa: TRY400
        return False
    return True
