"""The SQLite form of a Backend: one file, with the spool beside it."""

import sqlite3
from pathlib import Path

from sqlalchemy.dialects import sqlite

from app.store.sqlite.dialect import DIALECT
from app.store.sqlite.write_connection import SqliteWriteConnection
from app.store.write.backend import ErrorKind, Insert

_BAD_ROW = (
    *(sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError),
    *(TypeError, OverflowError, ValueError),  # a lone surrogate is a ValueError
)


class SqliteBackend:
    """A file that exists and is up to date."""

    dialect = DIALECT
    insert: Insert = staticmethod(sqlite.insert)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_dir = path.parent

    def open(self) -> SqliteWriteConnection:
        """Raises sqlite3.Error or OSError."""
        return SqliteWriteConnection(self.path)

    def kind_of(self, error: Exception) -> ErrorKind:
        """By the driver's classes."""
        if isinstance(error, sqlite3.IntegrityError):
            return ErrorKind.CONFLICT
        if isinstance(error, _BAD_ROW):
            return ErrorKind.BAD_ROW
        return ErrorKind.DAMAGED if type(error) is sqlite3.DatabaseError else ErrorKind.TROUBLE
