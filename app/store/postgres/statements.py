"""Statements that only PostgreSQL needs, and its dialect."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg as dialects

from app.store.schema.rows import COLUMNS
from app.store.schema.tables import records
from app.store.write.statements import onto_open

DIALECT: sa.Dialect = dialects.dialect(paramstyle="format")  # type: ignore[no-untyped-call]

READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
CHANGED = "NOTIFY weighbridge"
LISTEN = "LISTEN weighbridge"


def put_many() -> sa.ClauseElement:
    """As statements.put, for many rows with different ids. Parameters: an array a column."""
    return onto_open(postgresql.insert(records).from_select(COLUMNS, given_rows(records)))


def given_rows(table: sa.Table) -> sa.Select[Any]:
    """Rows to insert into a table. Parameters: an array a column."""
    arrays = [sa.bindparam(f"all_{column.name}", type_=postgresql.ARRAY(_plain(column.type))) for column in table.c]
    names = [sa.column(column.name, _plain(column.type)) for column in table.c]
    given = sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return sa.select(*given.c)


def _plain(kind: Any) -> Any:  # noqa: ANN401 - a type of SQLAlchemy's, whichever
    """Without the collation: an array has none."""
    return sa.Text() if isinstance(kind, sa.Text) else kind
