"""The PostgreSQL form of a Backend: a database that others use as well, and the directory of this process."""

from pathlib import Path

import psycopg
from psycopg import errors
from sqlalchemy.dialects import postgresql

from app.private_files import read_own, write_whole
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import Trouble
from app.store.postgres.presence import Presence, suffix_of
from app.store.postgres.statements import DIALECT
from app.store.postgres.write_connection import PostgresWriteConnection
from app.store.write.backend import ErrorKind, Insert

PROCESS_NAME = "process"
"""The file with the number of the process that has the directory, or had it last."""

_BAD_ROW = (
    *(errors.DataError, errors.DatatypeMismatch, errors.CannotCoerce, errors.ProgramLimitExceeded),
    errors.CardinalityViolation,  # the same id twice
    *(TypeError, ValueError, OverflowError),  # a lone surrogate is a ValueError
)


class PostgresBackend:
    """For the process `process`, a 32-bit number, which has locked `state_dir`."""

    dialect = DIALECT
    insert: Insert = staticmethod(postgresql.insert)

    def __init__(self, address: PostgresAddress, state_dir: Path, process: int, lease_seconds: float) -> None:
        self.state_dir = state_dir
        self._address = address
        self._process = process
        self._lease_seconds = lease_seconds

    def open(self) -> PostgresWriteConnection:
        """Connect. Raises Trouble, UntrustedFile, or OSError when the directory cannot be written."""
        note = self.state_dir / PROCESS_NAME
        try:
            predecessor = read_own(note).decode("ascii", "replace").strip() or None
        except FileNotFoundError:
            predecessor = None
        connection = PostgresWriteConnection(self._address, Presence(self._process, self._lease_seconds), predecessor)
        write_whole(note, f"{suffix_of(self._process)}\n".encode("ascii"))
        return connection

    def kind_of(self, error: BaseException) -> ErrorKind:
        """By the driver's classes. Nothing counts as damaged: a server may come back from everything."""
        if isinstance(error, Trouble) and error.__cause__ is not None:
            return self.kind_of(error.__cause__)
        if isinstance(error, errors.IntegrityError):
            return ErrorKind.CONFLICT
        not_sent = isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None  # no type for a value
        if not_sent or isinstance(error, _BAD_ROW):
            return ErrorKind.BAD_ROW
        collided = isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)
        return ErrorKind.COLLISION if collided else ErrorKind.TROUBLE
