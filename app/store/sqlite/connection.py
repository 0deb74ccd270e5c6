"""The one writing connection to the SQLite file. It belongs to the writer's thread, which opens, uses and closes it."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from app.domain.records import Outcome
from app.store.schema.rollups import DAY_MICROSECONDS, Additions, day_of
from app.store.schema.rows import OUTCOME_AT, Row, Rows, amended_row, amended_values, id_floor, mended, settled_by_books
from app.store.schema.sql import Prepared, Result, SqlStatement
from app.store.schema.tables import days, hours
from app.store.write import statements

LOG = logging.getLogger(__name__)

_NO_ROW = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError),
    *(TypeError, OverflowError, ValueError),
)

BUSY_MILLISECONDS = 250
"""How long a commit waits for a lock that should not be there. Then the batch goes to the spool."""

# `synchronous=FULL`: a commit survives a power cut. The WAL is cut back after a large transaction; nothing is mapped
# into memory, where an I/O error would kill the process.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA journal_size_limit=67108864",
)


class Misplaced(OSError):
    """The file that is open is not the one that stands at its path: what is written to it would be lost."""


def compiled(statement: sa.ClauseElement) -> SqlStatement:
    """The statement in SQLite's words, for the plain driver."""
    text, parameters = prepared(statement)
    return SqlStatement(text, tuple(value for _, value in parameters))


def prepared(statement: sa.ClauseElement) -> Prepared:
    """The same with the names of its parameters in order, and the values that the statement itself has for them."""
    dialect = sqlite.dialect(paramstyle="qmark")
    form = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(form, SQLCompiler)  # noqa: S101 - what SQL compiles to; tells the type checker of `positiontup`
    return form.string, tuple((name, form.params[name]) for name in form.positiontup or ())


class Database:
    """Writes rows, many to a transaction, and with them the roll-ups. Statements are compiled once."""

    def __init__(self, path: Path) -> None:
        """Open the file, which must be there and up to date. Raises sqlite3.Error or OSError."""
        self._path = path
        self._uri = f"{path.absolute().as_uri()}?mode=rw"
        self._put = compiled(statements.put(sqlite.insert)).text
        self._add_hours = compiled(statements.roll_up(sqlite.insert, hours)).text
        self._add_days = compiled(statements.roll_up(sqlite.insert, days)).text
        self._tidy_hours, self._tidy_days = ([compiled(one).text for one in statements.tidy(t)] for t in (hours, days))
        self._amendable = compiled(statements.amendable()).text
        self._amend = compiled(statements.amend()).text
        self._connection = _connect(self._uri, BUSY_MILLISECONDS)
        self._identity = _identity(path)
        self._folded_until: int = self.run([compiled(statements.folded_until())], reads=True)[0].rows[0][0]

    def write(self, rows: Rows) -> int:
        """Commit rows of calls still open, settled rows and amendments. Gives how many rows no database would take.

        Raises sqlite3.Error or OSError when storage is in trouble; then nothing is written.
        """
        try:
            with self._transaction() as connection:
                if self._write_quickly(connection, rows):
                    return 0
                connection.execute("ROLLBACK")
        except (sqlite3.OperationalError, sqlite3.InternalError, OSError, MemoryError):
            raise
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:  # a damaged file
                raise
        except (ValueError, OverflowError, TypeError):  # a lone surrogate is a ValueError
            pass
        return self._write_one_by_one(rows)

    def run(self, batch: Sequence[SqlStatement], *, reads: bool = False) -> list[Result]:
        """Run statements in one transaction of their own. Raises sqlite3.Error; then none of them has happened.

        What only `reads` needs no lock, and works while others hold it.
        """
        results = []
        with self._transaction("BEGIN" if reads else "BEGIN IMMEDIATE") as connection:
            for statement in batch:
                cursor = connection.execute(statement.text, statement.values)
                results.append(Result(cursor.rowcount, cursor.fetchall()))
        return results

    def close_interrupted(self) -> int:
        """Close what an earlier process left open; gives how many calls. Raises sqlite3.Error."""
        still_open = compiled(statements.still_open())
        with self._transaction() as connection:
            left = connection.execute(still_open.text, still_open.values).fetchall()
            if not left:
                return 0
            interrupted = Additions()
            interrupted.add((*row[:OUTCOME_AT], str(Outcome.INTERRUPTED), *row[OUTCOME_AT + 1 :]) for row in left)
            self._roll_up(connection, interrupted)
            connection.execute(compiled(statements.close_interrupted()).text)
        LOG.warning("calls left open by the last process, now closed as interrupted: %d", len(left))
        return len(left)

    def delete_before(self, hour: int, most: int) -> int:
        """Delete the oldest records that began before `hour`, at most so many. Gives how many. Raises sqlite3.Error."""
        forget, delete = statements.forget_before(hour), statements.delete_below(id_floor(hour), most)
        return self.run([compiled(forget), compiled(delete)])[1].rowcount

    def fold_day(self, before: int) -> bool:
        """Add up the next day that was over by then (microseconds UTC), if there is one. Raises sqlite3.Error."""
        first = self.run([compiled(statements.first_unfolded())], reads=True)[0].rows[0][0]
        if first is None or day_of(first) + DAY_MICROSECONDS > before:
            return False
        self.run([compiled(statement) for statement in statements.fold(day_of(first))])
        self._folded_until = day_of(first) + DAY_MICROSECONDS
        return True

    def check_place(self) -> None:
        """Raises Misplaced when somebody has deleted, moved or replaced the file. Costs one look at the directory."""
        try:
            identity = _identity(self._path)
        except FileNotFoundError:
            raise Misplaced("the database file is gone") from None
        if identity != self._identity:
            raise Misplaced("the database file was replaced while in use: restart Weighbridge")

    def watch(self) -> int:
        """Each second: check_place(). Nobody else writes here."""
        self.check_place()
        return 0

    def probe(self) -> None:
        """See whether a transaction can begin. Raises sqlite3.Error."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("ROLLBACK")

    def hurry(self) -> None:
        """From now on wait for nobody's lock."""
        with contextlib.suppress(sqlite3.Error):  # a connection that is good for nothing will be replaced
            self._connection.execute("PRAGMA busy_timeout=0")

    def take_time(self) -> None:
        """Wait again for locks of others, for BUSY_MILLISECONDS."""
        self._connection.execute("PRAGMA busy_timeout=250")

    def reopen(self) -> None:
        """Take a fresh connection: a file system that went away and came back leaves the old one useless.

        It is one in a hurry. Raises sqlite3.Error or OSError and keeps the old one when there is no database to open,
        or another one: SQLite would take our log, which stands beside it, for the log of that.
        """
        self.check_place()
        fresh = _connect(self._uri, 0)
        self.close()
        self._connection = fresh

    def close(self) -> None:
        """The last connection to close folds the WAL into the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute(begin)
        try:
            yield connection
            if connection.in_transaction:
                connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def _write_quickly(self, connection: sqlite3.Connection, rows: Rows) -> bool:
        """False when some of the settled rows were settled before: then it must be seen which, for the roll-ups."""
        if rows.open:
            connection.executemany(self._put, rows.open)
        if rows.settled and connection.executemany(self._put, rows.settled).rowcount != len(rows.settled):
            return False
        added = Additions()
        added.add(rows.settled)
        self._write_amendments(connection, rows.amended, added)
        self._roll_up(connection, added)
        return True

    def _write_one_by_one(self, rows: Rows) -> int:
        """Write each row by itself, mended where it cannot be stored as it is; leave out what even so is refused."""
        unwritable = 0
        added = Additions()
        with self._transaction() as connection:
            for row in map(mended, rows.open):
                _write_one(connection, self._put, row)
            for row in map(mended, rows.settled):
                changed = _write_one(connection, self._put, row)
                unwritable += changed is None
                if changed:
                    added.add([row])
            self._write_amendments(connection, map(mended, rows.amended), added)
            self._roll_up(connection, added)
        return unwritable

    def _roll_up(self, connection: sqlite3.Connection, added: Additions) -> None:
        connection.executemany(self._add_hours, added.hours())
        if late := added.days(self._folded_until):
            connection.executemany(self._add_days, late)
        for key in added.left:
            for text in self._tidy_hours:
                connection.execute(text, key)
            for text in self._tidy_days:
                connection.execute(text, (day_of(key[0]), *key[1:]))

    def _write_amendments(self, connection: sqlite3.Connection, rows: Iterable[Row], added: Additions) -> None:
        for books in filter(settled_by_books, rows):
            before = connection.execute(self._amendable, books[:1]).fetchone()
            if before is not None:
                after = amended_row(before, books)
                connection.execute(self._amend, (*amended_values(after), books[0]))
                added.replace(before, after)


def _connect(uri: str, wait_milliseconds: int) -> sqlite3.Connection:
    # The driver asks of each None how it wishes to be stored; without an answer at hand that costs a microsecond each.
    sqlite3.register_adapter(type(None), lambda _: None)
    connection = sqlite3.connect(uri, uri=True, timeout=wait_milliseconds / 1000, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()  # by name: to open and close the file would drop SQLite's locks on it
    return found.st_dev, found.st_ino


def _write_one(connection: sqlite3.Connection, statement: str, row: Row) -> int | None:
    """How many rows were changed; None when this one is no row that a database would take."""
    try:
        Additions().add([row])
        return connection.execute(statement, row).rowcount
    except _NO_ROW as error:
        LOG.error("The record of %s cannot be stored: %s", row[0], type(error).__name__)  # noqa: TRY400
        return None
