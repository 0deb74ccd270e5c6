"""Rows as PostgreSQL takes them."""

from app.store.schema.rows import COLUMNS, Row, mended

LONGEST_MODEL = 500
"""Characters. The model is part of the key of the roll-ups, and an entry of an index holds 2,704 bytes."""

_MODELS_AT = tuple(map(COLUMNS.index, ("model_requested", "model_served")))


def acceptable(row: Row) -> Row:
    """The row with every value such that PostgreSQL takes it: no NUL in texts, and models of LONGEST_MODEL at most."""
    values = [value.replace("\0", "?") if isinstance(value, str) else value for value in mended(row)]
    for place in _MODELS_AT:
        if isinstance(values[place], str):
            values[place] = values[place][:LONGEST_MODEL]
    return tuple(values)
