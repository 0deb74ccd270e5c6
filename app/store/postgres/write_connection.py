"""The writing connection of a process to PostgreSQL, beside those of other processes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import PostgresConnection, Trouble, words_of
from app.store.postgres.connector import Connector
from app.store.postgres.presence import Presence
from app.store.postgres.rows import acceptable
from app.store.postgres.statements import CHANGED, DIALECT, READ_ONLY, put_many
from app.store.schema.rows import Row
from app.store.schema.sql import Result, compiled
from app.store.schema.tables import records
from app.store.write import statements
from app.store.write.backend import Access, Condition

PATIENCE_SECONDS = 0.7
"""How long a transaction may take before its batch goes to the spool: less than callers wait at the most (1 s)."""
LONGEST_PATIENCE_SECONDS = 10.0
"""What it grows to while a server is too slow, so that the work is done all the same."""
MAINTENANCE_SECONDS = 5.0
_LOOK_AFTER = 5
"""After so many watches, that is seconds, this process looks for processes that have ended."""

# Advisory locks of transactions. All writers of the ledger share number 0. Who adds up a day has it alone, so that no
# late record falls between a day and its hours. Number 1 is for the maintenance.
_BEGIN_LEDGER = "BEGIN; SELECT pg_advisory_xact_lock_shared(1466059880, 0)"
_EXCLUDE_WRITERS = "SELECT pg_advisory_xact_lock(1466059880, 0)"
_TRY_MAINTENANCE = "SELECT pg_try_advisory_xact_lock(1466059880, 1)"


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Turn an error of the driver into Trouble, with the error as its cause."""
    try:
        yield
    except psycopg.Error as error:
        raise Trouble(words_of(error)) from error


class PostgresWriteConnection:
    """The PostgreSQL form of a WriteConnection. Within a transaction it raises psycopg.Error, from without Trouble."""

    def __init__(self, address: PostgresAddress, presence: Presence, predecessor: str | None) -> None:
        """Connect. `predecessor` is the process that had our state directory before us, as it stands in ids."""
        self._put = compiled(statements.put(postgresql.insert), DIALECT).text
        self._put_many = compiled(put_many(), DIALECT).text
        self._presence = presence
        self._predecessor = predecessor
        self._patience = PATIENCE_SECONDS
        self._watches = 0
        self._connector = Connector(lambda: PostgresConnection.to(address))
        with _plainly():
            self._connection = PostgresConnection.to(address)
            self._presence.begin(self._connection)

    @contextlib.contextmanager
    def transaction(self, access: Access) -> Iterator[bool]:
        """One that takes too long fails, and the next one may take longer."""
        connection = self._connection
        with _plainly():
            connection.allow(max(MAINTENANCE_SECONDS if access is Access.MAINTENANCE else 0, self._patience))
            try:
                connection.execute(_BEGIN_LEDGER if access is Access.LEDGER else "BEGIN", prepare=False)
                yield access is not Access.MAINTENANCE or self._is_true(_TRY_MAINTENANCE)
                if access is Access.CHANGE:
                    connection.execute(CHANGED)
                connection.execute("COMMIT")
            except BaseException:
                if connection.out_of_time:
                    self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise
        self._patience = max(0.9 * self._patience, PATIENCE_SECONDS)

    def execute(self, text: str, values: Sequence[Any] = ()) -> Result:
        """Run one statement."""
        cursor = self._connection.execute(text, values)
        return Result(cursor.rowcount, cursor.fetchall() if cursor.description else [])

    def execute_many(self, text: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement with many sets of values."""
        with self._connection.cursor() as cursor:
            cursor.executemany(text, values)

    def put_all(self, rows: Sequence[Row]) -> int:
        """Write rows with one statement, an array a column."""
        return self._connection.execute(self._put_many, list(map(list, zip(*rows, strict=True)))).rowcount

    def put_one(self, row: Row) -> int:
        """Write one row behind a savepoint."""
        with self._connection.transaction():
            return self._connection.execute(self._put, row).rowcount

    def storable(self, row: Row) -> Row:
        """The row, such that PostgreSQL takes it."""
        return acceptable(row)

    def exclude_writers(self) -> None:
        """Wait until no other process writes to the ledger, and keep them waiting."""
        self._connection.execute(_EXCLUDE_WRITERS)

    @_plainly()
    def left_open(self) -> Condition | None:
        """Those of our predecessor, and of processes that count as dead."""
        self._connection.allow(self._patience)
        return _calls_of({*self._presence.gone(self._connection), *([self._predecessor] if self._predecessor else [])})

    @_plainly()
    def watch(self) -> Condition | None:
        """See that the server answers; hold our lock; look for dead processes every few seconds."""
        self._connection.allow(self._patience)
        self._connection.execute("SELECT 1")
        self._presence.hold(self._connection)
        self._watches += 1
        return None if self._watches % _LOOK_AFTER else _calls_of(self._presence.gone(self._connection))

    def wait_for_locks(self, *, patiently: bool) -> None:
        """Nothing here waits for long."""

    @_plainly()
    def reopen(self) -> None:
        """The connection is made in a thread of its own. A server that replicates another one takes no changes."""
        fresh = self._connector.take()
        fresh.allow(self._patience)
        try:
            self._presence.begin(fresh)
        except BaseException:
            fresh.close()
            raise
        self._connection.close()
        self._connection = fresh
        if self._is_true(READ_ONLY):
            raise Trouble("PostgreSQL: the server is read-only")

    def close(self) -> None:
        """Our lock ends with the connection."""
        self._connector.close()
        self._connection.close()

    def _is_true(self, question: LiteralString) -> bool:
        return bool(self._connection.execute(question).fetchall()[0][0])


def _calls_of(processes: Iterable[str]) -> Condition | None:
    """Their calls: the last 8 digits of a request id are the number of its process. None when there are no such."""
    chosen = sorted(processes)
    return sa.func.right(records.c.request_id, 8).in_(chosen) if chosen else None
