"""SQL as text for a driver, and what came of it."""

from typing import Any, NamedTuple

Prepared = tuple[str, tuple[tuple[str, Any], ...]]


class SqlStatement(NamedTuple):
    """SQL text for the driver, with its values in order."""

    text: str
    values: tuple[Any, ...]


class Result(NamedTuple):
    """What a statement did: rows changed, or rows read."""

    rowcount: int
    rows: list[tuple[Any, ...]]
