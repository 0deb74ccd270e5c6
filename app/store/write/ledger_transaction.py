"""One transaction's work on the ledger: its rows, and what they add to the roll-ups.

Other processes may write at the same time. Rows are told apart by their ids, and all processes take the rows of the
roll-ups in the same order, so that no two wait for each other.

A call that was closed as interrupted, and is settled by its process after all, is believed: the settled row replaces
the interrupted one, in the roll-ups too.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from app.store.schema.rollups import Additions, RollUp, day_of
from app.store.schema.rows import COLUMNS, Row, Rows, amended_row, amended_values, is_amendment
from app.store.schema.sql import SqlStatement, compiled
from app.store.schema.tables import days, hours
from app.store.write import statements
from app.store.write.backend import Backend, ErrorKind, WriteConnection

LOG = logging.getLogger(__name__)

_DURATION_AT = COLUMNS.index("duration_ms")


class AlreadySettled(Exception):
    """Some rows were settled before. Roll back, and write each by itself: the roll-ups need to know which."""


class LedgerSql:
    """The texts of the statements, compiled once."""

    def __init__(self, backend: Backend) -> None:
        def text(statement: sa.ClauseElement) -> str:
            return compiled(statement, backend.dialect).text

        self.folded_until = text(statements.folded_until())
        self.add = {table: text(statements.roll_up(backend.insert, table)) for table in (hours, days)}
        self.tidy = {table: [text(one) for one in statements.tidy(table)] for table in (hours, days)}
        self.amendable = text(statements.amendable())
        self.amend = text(statements.amend())
        self.given_up = text(statements.given_up())
        self.revive = text(statements.revive())


class LedgerTransaction:
    """Lives within a transaction for Access.LEDGER. Raises what the driver raises."""

    def __init__(self, connection: WriteConnection, sql: LedgerSql, kind_of: Callable[[Exception], ErrorKind]) -> None:
        self._connection = connection
        self._sql = sql
        self._kind_of = kind_of
        self._added = Additions()

    def write_all(self, rows: Rows) -> None:
        """Write all rows at once. Raises AlreadySettled when a settled row, or its like, is there."""
        if rows.open:
            self._connection.put_all(rows.open)
        if rows.settled and self._connection.put_all(rows.settled) != len(rows.settled):
            raise AlreadySettled
        self._added.add(rows.settled)
        self._amend(rows.amended)
        self._roll_up()

    def write_each(self, rows: Rows) -> int:
        """Write each row by itself, made storable. Gives how many settled rows the database refuses even so."""
        storable = self._connection.storable
        refused = 0
        for row in map(storable, rows.open):
            self._put_one(row)
        for row in map(storable, rows.settled):
            changed = self._put_one(row)
            if changed is None:
                refused += 1
            elif changed:
                self._added.add([row])
            elif row[_DURATION_AT] is not None:  # else it was closed as interrupted, too
                self._revive(row)
        self._amend(map(storable, rows.amended))
        self._roll_up()
        return refused

    def close(self, statement: SqlStatement) -> int:
        """Run `statements.close_interrupted`. Gives how many calls it has closed."""
        closed = self._connection.execute(*statement).rows
        self._added.add(closed)
        self._roll_up()
        return len(closed)

    def _put_one(self, row: Row) -> int | None:
        """How many rows changed; None when the database cannot store this one."""
        try:
            Additions().add([row])
            return self._connection.put_one(row)
        except Exception as error:
            if self._kind_of(error) not in {ErrorKind.BAD_ROW, ErrorKind.CONFLICT}:
                raise
            LOG.error("The record of %s cannot be stored: %s", row[0], type(error).__name__)  # noqa: TRY400
            return None

    def _revive(self, row: Row) -> None:
        for before in self._connection.execute(self._sql.given_up, row[:1]).rows:
            self._connection.execute(self._sql.revive, (*row[1:], row[0]))
            self._added.replace(before, row)

    def _amend(self, rows: Iterable[Row]) -> None:
        for amendment in filter(is_amendment, rows):
            for before in self._connection.execute(self._sql.amendable, amendment[:1]).rows:
                after = amended_row(before, amendment)
                self._connection.execute(self._sql.amend, (*amended_values(after), amendment[0]))
                self._added.replace(before, after)

    def _roll_up(self) -> None:
        lines = sorted(self._added.hours(), key=_key_of)
        if not lines:
            return
        self._connection.execute_many(self._sql.add[hours], lines)
        folded_until = self._connection.execute(self._sql.folded_until).rows[0][0]
        late: list[RollUp] = [(day_of(line[0]), *line[1:]) for line in lines if line[0] < folded_until]
        if late:
            self._connection.execute_many(self._sql.add[days], sorted(late, key=_key_of))
        for begins_at, *rest in sorted(self._added.left):
            for table, begin in ((hours, begins_at), (days, day_of(begins_at))):
                for text in self._sql.tidy[table]:
                    self._connection.execute(text, (begin, *rest))


def _key_of(line: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(line[:5])
