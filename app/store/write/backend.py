"""A Place is where a store writes: one database, reached by one connection, and the directory of its spool.

Writer (a thread) ──open──▶ Place ──▶ Medium: the SQLite file, or a PostgreSQL server
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from app.store.schema.rows import Rows
from app.store.schema.sql import Result, SqlStatement
from app.store.write.statements import Insert


class WriteConnection(Protocol):
    """The one writing connection. It belongs to the writer's thread; any exception means that storage is in trouble."""

    def write(self, rows: Rows) -> int:
        """Commit rows of calls still open, settled rows and amendments, and with them the roll-ups: all or none.

        A row that is there already changes nothing. Gives how many rows no database would take.
        """

    def run(self, batch: Sequence[SqlStatement], *, reads: bool = False) -> list[Result]:
        """Run statements in one transaction of their own."""

    def close_interrupted(self) -> int:
        """Close what processes that are no more have left open. Gives how many calls."""

    def fold_day(self, before: int) -> bool:
        """Add up the next day that was over by then (microseconds UTC), if there is one."""

    def delete_before(self, hour: int, most: int) -> int:
        """Delete the oldest records that began before `hour`, at most so many. Gives how many."""

    def check_place(self) -> None:
        """Before a change: raises when what is written would be lost."""

    def watch(self) -> int:
        """Look after the database once a second; raises when it is not there. Gives what close_interrupted() would."""

    def probe(self) -> None:
        """See whether a transaction can begin."""

    def hurry(self) -> None:
        """From now on wait for nobody's lock."""

    def take_time(self) -> None:
        """Wait for locks of others again."""

    def reopen(self) -> None:
        """Take a fresh connection. Never blocks for long: what waits for a disk waits behind it."""

    def close(self) -> None:
        """Let go of it."""


class Backend(Protocol):
    """One database, and the directory that belongs to this process."""

    @property
    def state_dir(self) -> Path:
        """Where the spool is."""

    @property
    def insert(self) -> Insert:
        """The dialect's own `insert`."""

    @property
    def conflict(self) -> type[Exception]:
        """What the driver raises when a statement breaks a rule of the schema."""

    def open(self) -> WriteConnection:
        """Connect, in the writer's thread. Raises what the driver raises."""

    def compiled(self, statement: sa.ClauseElement) -> SqlStatement:
        """The statement in the words of the driver."""

    def hopeless(self, error: Exception) -> bool:
        """Whether time would not mend this."""
