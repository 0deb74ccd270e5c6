"""A Posting is one transaction's work on the ledger: its rows, and what they add to the roll-ups.

A call that was given up for its process, and is settled by it after all, is believed: the settled row takes the place
of the interrupted one, in the roll-ups too.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import LiteralString

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from app.store.postgres import statements
from app.store.postgres.connection import PostgresConnection
from app.store.postgres.rows import acceptable, arrays, is_of_a_row, typed
from app.store.schema.rollups import Additions, RollUp, day_of
from app.store.schema.rows import COLUMNS, Row, Rows, amended_row, amended_values, settled_by_books
from app.store.schema.tables import days, hours
from app.store.write import statements as common

LOG = logging.getLogger(__name__)

_DURATION_AT = COLUMNS.index("duration_ms")


class Texts:
    """The SQL of a posting, compiled once for all."""

    def __init__(self) -> None:
        self.put = _text(common.put(postgresql.insert))
        self.put_many = _text(statements.put_many())
        self.add = {table: _text(common.roll_up(postgresql.insert, table)) for table in (hours, days)}
        self.tidy = {table: [_text(one) for one in common.tidy(table)] for table in (hours, days)}
        self.left = {table: [_text(one) for one in common.tidy(table)] for table in (hours, days)}
        self.amendable = _text(common.amendable().with_for_update())
        self.amend = _text(common.amend())
        self.given_up = _text(statements.given_up())
        self.revive = _text(statements.revive())


class SomeWereThere(Exception):
    """What was written must be rolled back, and written one by one."""


class Posting:
    """Lives within a transaction that shares the lock of `folded_until`. Raises psycopg.Error."""

    def __init__(self, connection: PostgresConnection, texts: Texts, folded_until: int) -> None:
        self._connection = connection
        self._texts = texts
        self._folded_until = folded_until
        self._added = Additions()

    def quickly(self, rows: Rows) -> None:
        """Write them all. Raises SomeWereThere when that is so of settled rows: then it must be seen of which."""
        with self._connection.cursor() as cursor:
            if rows.open:
                cursor.execute(self._texts.put_many, arrays(rows.open))
            if rows.settled and cursor.execute(self._texts.put_many, arrays(rows.settled)).rowcount != len(
                rows.settled
            ):
                raise SomeWereThere
        self._added.add(rows.settled)
        self._amend(rows.amended)
        self._roll_up()

    def one_by_one(self, rows: Rows) -> int:
        """Write each by itself, such that PostgreSQL takes it. Gives how many of the settled it refuses even so."""
        unwritable = 0
        for row in map(acceptable, rows.open):
            self._write(row)
        for row in map(acceptable, rows.settled):
            changed = self._write(row)
            unwritable += changed is None
            if changed:
                self._added.add([row])
            elif changed == 0 and row[_DURATION_AT] is not None:  # else it was given up by its own process, too
                self._revive(row)
        self._amend(map(acceptable, rows.amended))
        self._roll_up()
        return unwritable

    def close(self, processes: Sequence[str]) -> int:
        """Close what these processes have left open. Gives how many calls that were."""
        statement = statements.compiled(statements.close_of(processes))
        closed = self._connection.execute(statement.text, statement.values).fetchall()
        self._added.add(closed)
        self._roll_up()
        return len(closed)

    def _write(self, row: Row) -> int | None:
        """How many rows were changed; None when this one is no row that a database would take."""
        try:
            Additions().add([row])
            with self._connection.transaction():  # a savepoint
                return self._connection.execute(self._texts.put, typed(row)).rowcount
        except (psycopg.Error, TypeError, ValueError, OverflowError) as error:
            if not is_of_a_row(error):
                raise
            LOG.error("The record of %s cannot be stored: %s", row[0], type(error).__name__)  # noqa: TRY400
            return None

    def _revive(self, row: Row) -> None:
        before = self._connection.execute(self._texts.given_up, row[:1]).fetchone()
        if before is not None:
            self._connection.execute(self._texts.revive, (*typed(row)[1:], row[0]))
            self._added.replace(before, row)

    def _amend(self, rows: Iterable[Row]) -> None:
        for books in filter(settled_by_books, rows):
            before = self._connection.execute(self._texts.amendable, books[:1]).fetchone()
            if before is not None:
                after = amended_row(before, books)
                self._connection.execute(self._texts.amend, (*amended_values(after), books[0]))
                self._added.replace(before, after)

    def _roll_up(self) -> None:
        """In one order in all processes, or two of them could wait for each other."""
        late = self._added.days(self._folded_until)
        with self._connection.cursor() as cursor:
            for table, lines in ((hours, self._added.hours()), (days, late)):
                if lines:
                    in_order: list[RollUp] = sorted(lines, key=_key)
                    cursor.executemany(self._texts.add[table], in_order)
        for key in sorted(self._added.left):
            for table, begins_at in ((hours, key[0]), (days, day_of(key[0]))):
                for text in self._texts.left[table]:
                    self._connection.execute(text, (begins_at, *key[1:]))
        for key in sorted(self._added.left):
            for text in self._texts.tidy[hours]:
                self._connection.execute(text, key)
            for text in self._texts.tidy[days]:
                self._connection.execute(text, (day_of(key[0]), *key[1:]))


def _text(statement: sa.ClauseElement) -> LiteralString:
    return statements.compiled(statement).text


def _key(line: RollUp) -> RollUp:
    return line[:5]
