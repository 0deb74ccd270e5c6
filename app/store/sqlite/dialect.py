"""SQLAlchemy's statements as text for the sqlite3 driver."""

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.store.schema import sql

DIALECT = sqlite.dialect(paramstyle="qmark")


def compiled(statement: sa.ClauseElement) -> sql.SqlStatement:
    """A statement with its own values."""
    return sql.compiled(statement, DIALECT)
