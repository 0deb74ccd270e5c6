"""The SQLite form of a Place: one file, with the spool beside it."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.store.schema.sql import SqlStatement
from app.store.sqlite.connection import Database, compiled
from app.store.write.statements import Insert


class SqliteFile:
    """A file that is there and up to date."""

    conflict = sqlite3.IntegrityError
    insert: Insert = staticmethod(sqlite.insert)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_dir = path.parent

    def open(self) -> Database:
        """Raises sqlite3.Error or OSError."""
        return Database(self.path)

    def compiled(self, statement: sa.ClauseElement) -> SqlStatement:
        """In SQLite's words."""
        return compiled(statement)

    def hopeless(self, error: Exception) -> bool:
        """A damaged file."""
        return type(error) is sqlite3.DatabaseError
