"""What reports and lists ask of a database: rows, read beside the writer and never waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

CONNECTIONS = 2
"""Kept open once used: a fresh one costs as much as reading 200 records. More are opened at need, and closed again."""


class Reader(Protocol):
    """One per store. It connects when it is first asked something."""

    async def rows(self, statement: sa.Select[Any], values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of the answer, by column name; the caller keeps it small.

        With `values` for its parameters, the statement is one of a few that are asked again and again, and is put into
        SQL once.
        """

    async def close(self) -> None:
        """Harmless when nothing was ever read."""
