"""Rows as PostgreSQL takes them, and errors that are a row's own fault."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors

from app.store.schema.rows import COLUMNS, Row, mended

LONGEST_MODEL = 500
"""Characters. The model is part of the key of the roll-ups, and an entry of an index holds 2,704 bytes."""

_STREAM_AT = COLUMNS.index("stream")
_MODELS_AT = tuple(map(COLUMNS.index, ("model_requested", "model_served")))
_OF_A_ROW = (
    *(errors.DataError, errors.IntegrityError, errors.DatatypeMismatch, errors.CannotCoerce),
    errors.CardinalityViolation,  # the same id twice
    *(errors.ProgramLimitExceeded, TypeError, ValueError, OverflowError),  # a lone surrogate is a ValueError
)


def typed(row: Row) -> Row:
    """The row with a truth value for `stream`, which is a number elsewhere."""
    return (*row[:_STREAM_AT], bool(row[_STREAM_AT]), *row[_STREAM_AT + 1 :])


def arrays(rows: Sequence[Row]) -> list[list[Any]]:
    """The values of the rows, column by column."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns[_STREAM_AT] = list(map(bool, columns[_STREAM_AT]))
    return columns


def acceptable(row: Row) -> Row:
    """The row, still untyped, with every value such that PostgreSQL takes it: no NUL in texts, no endless model."""
    values = [value.replace("\0", "?") if isinstance(value, str) else value for value in mended(row)]
    for place in _MODELS_AT:
        if isinstance(values[place], str):
            values[place] = values[place][:LONGEST_MODEL]
    return tuple(values)


def is_of_a_row(error: Exception) -> bool:
    """Whether the database is well, and what it was given is not."""
    not_sent = isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None  # no type for a value
    return not_sent or isinstance(error, _OF_A_ROW)
