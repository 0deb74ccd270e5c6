"""The ledger's transactions: batches, roll-ups, interrupted calls, maintenance. Written once, for every database."""

import contextlib
import logging
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from app.store.schema.rollups import DAY_MICROSECONDS, day_of
from app.store.schema.rows import Rows, id_floor
from app.store.schema.sql import Result, SqlStatement, compiled
from app.store.write import statements
from app.store.write.backend import Access, Backend, Condition, ErrorKind
from app.store.write.ledger_transaction import AlreadySettled, LedgerSql, LedgerTransaction

LOG = logging.getLogger(__name__)

_TRIES = 4


class LedgerDatabase:
    """Runs over one `connection`. Belongs to the writer's thread.

    Methods raise what the driver raises; then nothing of theirs has been written.
    """

    def __init__(self, backend: Backend) -> None:
        """Connect."""
        self._kind_of = backend.kind_of
        self._dialect = backend.dialect
        self._sql = LedgerSql(backend)
        self.connection = backend.open()

    def write(self, rows: Rows) -> int:
        """Commit rows of open calls, settled rows and amendments, and with them the roll-ups: all or none.

        A row that is there already changes nothing. Gives how many settled rows the database cannot store.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._write(rows)
            except Exception as error:
                if self._kind_of(error) is not ErrorKind.COLLISION:
                    raise
        return self._write(rows)

    def run(self, batch: Sequence[SqlStatement], *, reads: bool = False) -> list[Result]:
        """Run statements in one transaction."""
        with self.connection.transaction(Access.READ if reads else Access.CHANGE):
            return [self.connection.execute(*statement) for statement in batch]

    def close_interrupted(self) -> int:
        """At a start, close the calls that ended processes have left open. Gives how many. May be repeated."""
        return self._close(self.connection.left_open())

    def watch(self) -> int:
        """Once a second: raises when the database is not there. Closes and counts as close_interrupted() does."""
        return self._close(self.connection.watch())

    def fold_day(self, before: int) -> bool:
        """Add up the next day that was over by then (microseconds UTC). False when there is none."""
        with self.connection.transaction(Access.MAINTENANCE) as ours:
            if not ours:
                return False
            first = self._run(statements.first_unfolded()).rows[0][0]
            if first is None or day_of(first) + DAY_MICROSECONDS > before:
                return False
            self.connection.exclude_writers()
            for statement in statements.fold(day_of(first)):
                self._run(statement)
        return True

    def delete_before(self, hour: int, most: int) -> int:
        """Delete the oldest records that began before `hour`, at most so many. Gives how many."""
        with self.connection.transaction(Access.MAINTENANCE) as ours:
            if not ours:
                return 0
            self._run(statements.forget_before(hour))
            return self._run(statements.delete_below(id_floor(hour), most)).rowcount

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _write(self, rows: Rows) -> int:
        try:
            with contextlib.suppress(AlreadySettled), self._ledger_transaction() as transaction:
                transaction.write_all(rows)
                return 0
        except Exception as error:
            if self._kind_of(error) not in {ErrorKind.BAD_ROW, ErrorKind.CONFLICT}:
                raise
        with self._ledger_transaction() as transaction:
            return transaction.write_each(rows)

    def _close(self, calls: Condition | None) -> int:
        if calls is None:
            return 0
        with self._ledger_transaction() as transaction:
            closed = transaction.close(compiled(statements.close_interrupted(calls), self._dialect))
        if closed:
            LOG.warning("calls left open by processes that have ended, now closed as interrupted: %d", closed)
        return closed

    @contextlib.contextmanager
    def _ledger_transaction(self) -> Iterator[LedgerTransaction]:
        with self.connection.transaction(Access.LEDGER):
            yield LedgerTransaction(self.connection, self._sql, self._kind_of)

    def _run(self, statement: sa.ClauseElement) -> Result:
        return self.connection.execute(*compiled(statement, self._dialect))
