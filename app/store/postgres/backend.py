"""The PostgreSQL form of a Place: a database that others use as well, and the directory of this process."""

from pathlib import Path

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from app.private_files import read_own, write_whole
from app.store.postgres import statements
from app.store.postgres.address import PostgresAddress
from app.store.postgres.presence import Presence, suffix_of
from app.store.postgres.write_connection import PostgresDatabase
from app.store.schema.sql import SqlStatement
from app.store.write.statements import Insert

PROCESS_NAME = "process"
"""The file that holds the number of the process that has the directory, or had it last."""


class PostgresPlace:
    """Of the process `process`, a 32-bit number, which has locked `state_dir`."""

    conflict = psycopg.IntegrityError
    insert: Insert = staticmethod(postgresql.insert)

    def __init__(self, address: PostgresAddress, state_dir: Path, process: int, lease_seconds: float) -> None:
        self.state_dir = state_dir
        self._address = address
        self._process = process
        self._lease_seconds = lease_seconds

    def open(self) -> PostgresDatabase:
        """Connect. Raises Trouble, UntrustedFile, or OSError when the directory cannot be written."""
        note = self.state_dir / PROCESS_NAME
        try:
            predecessor = read_own(note).decode("ascii", "replace").strip() or None
        except FileNotFoundError:
            predecessor = None
        database = PostgresDatabase(self._address, Presence(self._process, self._lease_seconds), predecessor)
        write_whole(note, f"{suffix_of(self._process)}\n".encode("ascii"))
        return database

    def compiled(self, statement: sa.ClauseElement) -> SqlStatement:
        """As psycopg takes it."""
        return statements.compiled(statement)

    def hopeless(self, error: Exception) -> bool:  # noqa: ARG002 - the port's shape
        """A server may come back from everything."""
        return False
