"""The one writing connection of a process to PostgreSQL. It belongs to the writer's thread.

Others write at the same time. What makes that right: rows are told apart by their ids, the rows of the roll-ups are
taken in one order by all, and who changes what another one may be changing locks it first.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import errors

from app.store.postgres import statements
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import PostgresConnection, Trouble, words_of
from app.store.postgres.connector import Connector
from app.store.postgres.posting import Posting, SomeWereThere, Texts
from app.store.postgres.presence import Presence
from app.store.postgres.rows import is_of_a_row
from app.store.schema.rollups import DAY_MICROSECONDS, day_of
from app.store.schema.rows import Rows, id_floor
from app.store.schema.sql import Result, SqlStatement
from app.store.write import statements as common

LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.7
"""So long a transaction may take before its batch goes to the spool: less than callers wait at the most (1 s)."""
LONGEST_PATIENCE_SECONDS = 10.0
"""What it grows to while a server is too slow, so that the work is done all the same."""
UPKEEP_SECONDS = 5.0
_TRIES = 3
_LOOK_AFTER = 5
"""Every so many watches, that is seconds, we look for processes that are gone."""


class PostgresDatabase:
    """The PostgreSQL form of a Medium. What it raises is Trouble, in one line, unless said otherwise."""

    def __init__(self, address: PostgresAddress, presence: Presence, predecessor: str | None) -> None:
        """Connect. `predecessor` is the process that had our state directory before us, as it stands in ids."""
        self._texts = Texts()
        self._presence = presence
        self._predecessor = predecessor
        self._patience = PATIENCE_SECONDS
        self._watches = 0
        self._connector = Connector(lambda: PostgresConnection.to(address))
        with _plainly():
            self._connection = PostgresConnection.to(address)
            self._presence.begin(self._connection)

    def write(self, rows: Rows) -> int:
        """Commit rows and roll-ups, as the port says. Of two processes that wait for each other, one tries again."""
        with _plainly():
            for _ in range(_TRIES):
                with contextlib.suppress(errors.DeadlockDetected, errors.SerializationFailure):
                    return self._write(rows)
            return self._write(rows)

    def run(self, batch: Sequence[SqlStatement], *, reads: bool = False) -> list[Result]:
        """Run statements in one transaction, and tell all processes of a change. Raises Trouble or IntegrityError."""
        results = []
        with _plainly(errors.IntegrityError), self._transaction() as connection:
            for statement in batch:
                cursor = _execute(connection, statement)
                results.append(Result(cursor.rowcount, cursor.fetchall() if cursor.description else []))
            if not reads:
                connection.execute(statements.CHANGED)
        return results

    def close_interrupted(self) -> int:
        """Close what our predecessor left open, and processes that count as dead."""
        with _plainly():
            self._connection.allow(self._patience)
            gone = set(self._presence.gone(self._connection))
            if self._predecessor is not None:
                gone.add(self._predecessor)
            closed = self._close(gone)
        self._predecessor = None
        return closed

    def fold_day(self, before: int) -> bool:
        """Add up the next day that is over, unless another process is at it."""
        with _plainly(), self._transaction(UPKEEP_SECONDS) as connection:
            if not _true(connection, statements.TRY_UPKEEP):
                return False
            first = _execute(connection, statements.compiled(common.first_unfolded())).fetchall()[0][0]
            if first is None or day_of(first) + DAY_MICROSECONDS > before:
                return False
            connection.execute(statements.FOLD_ALONE)
            for statement in common.fold(day_of(first)):
                _execute(connection, statements.compiled(statement))
        return True

    def delete_before(self, hour: int, most: int) -> int:
        """Delete old records, unless another process is at it."""
        with _plainly(), self._transaction(UPKEEP_SECONDS) as connection:
            if not _true(connection, statements.TRY_UPKEEP):
                return 0
            _execute(connection, statements.compiled(common.forget_before(hour)))
            return _execute(connection, statements.compiled(common.delete_below(id_floor(hour), most))).rowcount

    def check_place(self) -> None:
        """A server is not moved away under its connections."""

    def watch(self) -> int:
        """See that the server answers; hold our lock; every few seconds, close what dead processes have left open."""
        with _plainly():
            self._connection.allow(self._patience)
            self._connection.execute("SELECT 1")
            self._presence.hold(self._connection)
            self._watches += 1
            if self._watches % _LOOK_AFTER == 0:
                return self._close(self._presence.gone(self._connection))
        return 0

    def probe(self) -> None:
        """See whether the server takes writes: one that replicates another does not."""
        with _plainly():
            if _true(self._connection, statements.READ_ONLY):
                raise Trouble("PostgreSQL: the server is read-only")

    def hurry(self) -> None:
        """Nothing here waits for long."""

    def take_time(self) -> None:
        """The same."""

    def reopen(self) -> None:
        """Take a fresh connection. It is made in a thread of its own."""
        with _plainly():
            fresh = self._connector.take()
            fresh.allow(self._patience)
            try:
                self._presence.begin(fresh)
            except BaseException:
                fresh.close()
                raise
        self._connection.close()
        self._connection = fresh

    def close(self) -> None:
        """Our lock ends with the connection."""
        self._connector.close()
        self._connection.close()

    def _write(self, rows: Rows) -> int:
        try:
            with contextlib.suppress(SomeWereThere), self._posting() as posting:
                posting.quickly(rows)
                return 0
        except Exception as error:
            if not is_of_a_row(error):
                raise
        with self._posting() as posting:
            return posting.one_by_one(rows)

    def _close(self, processes: "set[str] | list[str]") -> int:
        if not processes:
            return 0
        with self._posting() as posting:
            closed = posting.close(sorted(processes))
        if closed:
            LOG.warning("calls left open by processes that are no more, now closed as interrupted: %d", closed)
        return closed

    @contextlib.contextmanager
    def _posting(self) -> Iterator[Posting]:
        with self._transaction(begin=statements.BEGIN_POSTING) as connection:
            rows = connection.execute(statements.FOLDED_UNTIL).fetchall()
            yield Posting(connection, self._texts, rows[0][0])

    @contextlib.contextmanager
    def _transaction(self, seconds: float = 0, begin: LiteralString = "BEGIN") -> Iterator[PostgresConnection]:
        connection = self._connection
        connection.allow(max(seconds, self._patience))
        try:
            connection.execute(begin, prepare=False)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.out_of_time:
                self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            raise
        self._patience = max(0.9 * self._patience, PATIENCE_SECONDS)


@contextlib.contextmanager
def _plainly(*passed: type[Exception]) -> Iterator[None]:
    """What the driver raises becomes Trouble, but for what is `passed`."""
    try:
        yield
    except passed:
        raise
    except psycopg.Error as error:
        raise Trouble(words_of(error)) from error


def _execute(connection: PostgresConnection, statement: SqlStatement) -> "psycopg.Cursor[tuple[Any, ...]]":
    return connection.execute(statement.text, statement.values)


def _true(connection: PostgresConnection, question: LiteralString) -> bool:
    return bool(connection.execute(question).fetchall()[0][0])
