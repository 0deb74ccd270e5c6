"""The statements that only PostgreSQL needs, and how all of them are put into its words."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.sql.compiler import SQLCompiler

from app.store.schema.rows import COLUMNS
from app.store.schema.sql import SqlStatement
from app.store.schema.tables import IN_PROGRESS, records
from app.store.write import statements as common

# Advisory locks of transactions. Every writer shares the first; who adds up a day has it alone, so that no late record
# falls between a day and its hours. Each of the others is a task for one process at a time.
BEGIN_POSTING = """
BEGIN;
SELECT pg_advisory_xact_lock_shared(1466059880, 0)
"""
FOLDED_UNTIL = "SELECT folded_until FROM ledger_progress"
FOLD_ALONE = "SELECT pg_advisory_xact_lock(1466059880, 0)"
TRY_UPKEEP = "SELECT pg_try_advisory_xact_lock(1466059880, 1)"
MIGRATE_ALONE = "SELECT pg_advisory_xact_lock(1466059880, 2)"

READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"

CHANGED = "NOTIFY weighbridge"
LISTEN = "LISTEN weighbridge"

_INTERRUPTED = sa.literal_column("'interrupted'", sa.Text)
_GIVEN_UP = sa.and_(
    records.c.outcome == _INTERRUPTED,
    records.c.finished_at == records.c.started_at,
    records.c.duration_ms.is_(None),
)
"""What `close_of` makes of a call. One that was settled has a duration."""


def compiled(statement: sa.ClauseElement) -> SqlStatement:
    """The statement as psycopg takes it, with its values in order."""
    dialect = dialects.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    form = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(form, SQLCompiler)  # noqa: S101 - what SQL compiles to; tells the type checker of `positiontup`
    return SqlStatement(form.string, tuple(form.params[name] for name in form.positiontup or ()))


def put_many() -> sa.ClauseElement:
    """As statements.put, of many rows of different ids. Parameters: an array a column."""
    return common.onto_open(postgresql.insert(records).from_select(COLUMNS, given_rows(records)))


def given_rows(table: sa.Table) -> sa.Select[Any]:
    """Rows to insert into a table. Parameters: an array a column."""
    arrays = [sa.bindparam(f"all_{column.name}", type_=postgresql.ARRAY(_plain(column.type))) for column in table.c]
    names = [sa.column(column.name, _plain(column.type)) for column in table.c]
    given = sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return sa.select(*given.c)


def _plain(kind: Any) -> Any:  # noqa: ANN401 - a type of SQLAlchemy's, whichever
    """Without the collation: an array has none."""
    return sa.Text() if isinstance(kind, sa.Text) else kind


def close_of(processes: Sequence[str]) -> sa.ClauseElement:
    """Close what these processes have left open; gives the rows as they are then (see statements.close_interrupted)."""
    theirs = sa.func.right(records.c.request_id, 8).in_(processes)
    closed = sa.update(records).where(records.c.outcome == IN_PROGRESS, theirs)
    return closed.values(outcome=_INTERRUPTED, finished_at=records.c.started_at).returning(*records.c)


def given_up() -> sa.ClauseElement:
    """The row of a call that was closed for its process, if that is what it is. Parameter: the id."""
    return sa.select(records).where(records.c.request_id == sa.bindparam("id"), _GIVEN_UP).with_for_update()


def revive() -> sa.ClauseElement:
    """Put the settled row in the place of that one. Parameters: all columns but the id, then the id."""
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in COLUMNS[1:]}
    return sa.update(records).where(records.c.request_id == sa.bindparam("id")).values(values)
