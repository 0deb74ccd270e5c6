"""The port of a database that a store writes to. SQLite and PostgreSQL fill it; app.store.write runs over it.

Writer (a thread) ──▶ WritePath ──▶ LedgerDatabase ──▶ WriteConnection ──▶ SQLite file or PostgreSQL server
                                                            ▲
                                           Backend ──open───┘
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from app.store.schema.rows import Row
from app.store.schema.sql import Result

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

Insert = Callable[[sa.Table], "sqlite.Insert | postgresql.Insert"]
"""A dialect's own `insert`. Those of SQLite and PostgreSQL have the same methods."""

Condition = sa.ColumnElement[bool]


class Access(Enum):
    """What a transaction is for."""

    READ = auto()
    CHANGE = auto()  # of clients, keys, the audit log: other processes hear of it
    LEDGER = auto()  # records and roll-ups
    MAINTENANCE = auto()  # for one process at a time


class ErrorKind(Enum):
    """What an exception says about the database."""

    CONFLICT = auto()  # a statement breaks a rule of the schema
    BAD_ROW = auto()  # the database is well, and refuses the values of a row
    COLLISION = auto()  # another process was in the way: try again at once
    DAMAGED = auto()  # time will not mend it
    TROUBLE = auto()  # the database takes nothing at the moment


class WriteConnection(Protocol):
    """The one writing connection of a process. It belongs to the writer's thread. Methods raise what the driver raises.

    execute(), execute_many(), put_all(), put_one() and exclude_writers() are called within a transaction.
    """

    def transaction(self, access: Access) -> AbstractContextManager[bool]:
        """Begin; commit at the end of the block, or roll back when it raises.

        Gives True; False when another process is busy with the maintenance.
        """

    def execute(self, text: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement."""

    def execute_many(self, text: str, values: Iterable[Sequence[Any]]) -> object:
        """Run one statement with many sets of values."""

    def put_all(self, rows: Sequence[Row]) -> int:
        """`statements.put` with all these rows. Gives how many rows of the table changed."""

    def put_one(self, row: Row) -> int:
        """`statements.put` with one row. When it raises, the transaction goes on without it."""

    def storable(self, row: Row) -> Row:
        """The row, with each value that this database cannot store replaced."""

    def exclude_writers(self) -> None:
        """Until the end of the transaction no other process writes to the ledger."""

    def left_open(self) -> Condition | None:
        """At a start: which open calls belong to processes that have ended. None: no call does."""

    def watch(self) -> Condition | None:
        """Once a second: raises when the database is not there. Gives what left_open() would, without the start's."""

    def wait_for_locks(self, *, patiently: bool) -> None:
        """Whether statements wait for locks of others, where that is this connection's choice."""

    def reopen(self) -> None:
        """Take a fresh connection, one that does not wait for locks, and see that it takes changes. Must not block."""

    def close(self) -> None:
        """Close the connection. Raises nothing."""


class Backend(Protocol):
    """One database, and the directory of this process."""

    @property
    def state_dir(self) -> Path:
        """The directory with the spool."""

    @property
    def dialect(self) -> sa.Dialect:
        """For statements that run on a WriteConnection."""

    @property
    def insert(self) -> Insert:
        """The dialect's own `insert`."""

    def open(self) -> WriteConnection:
        """Connect, in the writer's thread. Raises what the driver raises."""

    def kind_of(self, error: Exception) -> ErrorKind:
        """What an exception of a WriteConnection, or of a value of the wrong type, means."""
