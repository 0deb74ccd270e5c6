"""SQL as text for a driver, and what came of it."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

Prepared = tuple[str, tuple[tuple[str, Any], ...]]
"""SQL text; the names of its parameters in order, and the values that the statement itself has for them."""


class SqlStatement(NamedTuple):
    """SQL text for the driver, with its values in order."""

    text: str
    values: tuple[Any, ...]


class Result(NamedTuple):
    """What a statement did: rows changed, or rows read."""

    rowcount: int
    rows: list[tuple[Any, ...]]


def prepared(statement: sa.ClauseElement, dialect: sa.Dialect) -> Prepared:
    """A statement that is run again and again with other values."""
    form = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(form, SQLCompiler)  # noqa: S101 - what SQL compiles to; tells the type checker of `positiontup`
    return form.string, tuple((name, form.params[name]) for name in form.positiontup or ())


def compiled(statement: sa.ClauseElement, dialect: sa.Dialect) -> SqlStatement:
    """A statement with its own values."""
    text, parameters = prepared(statement, dialect)
    return SqlStatement(text, tuple(value for _, value in parameters))
