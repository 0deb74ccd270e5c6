"""The port of a database that reports and lists read from, beside the writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

CONNECTIONS = 2
"""Kept open once used: a fresh one costs as much as reading 200 records. More are opened at need, and closed again."""


class Reader(Protocol):
    """One for each store. It connects at the first question."""

    async def rows(self, statement: sa.Select[Any], values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of the answer, by column name; the caller keeps it small.

        With `values` for its parameters, the statement is compiled once and kept: it is one of few that come often.
        """

    async def close(self) -> None:
        """Close all connections, if there are any."""
