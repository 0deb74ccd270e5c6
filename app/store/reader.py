"""Read-only connections for reports and lists, apart from the writer: SQLite in WAL mode lets both go on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import aiosqlite
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine


CONNECTIONS = 2
"""Kept open once used: a fresh one costs as much as reading 200 records. More are opened at need, and closed again."""


class Reader:
    """Makes its engine when it is first asked something: SQLAlchemy's async part costs a start 0.1 s and 8 MB."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: AsyncEngine | None = None

    async def rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        """All rows of the answer, by column name; the caller keeps it small."""
        if self._engine is None:
            self._engine = self._make_engine()
        async with self._engine.connect() as connection:
            result = await connection.execute(statement)
            names = list(map(str, result.keys()))  # a label may be of a class that orjson refuses as a key
            return [dict(zip(names, row, strict=True)) for row in result]

    async def close(self) -> None:
        """Harmless when nothing was ever read."""
        if self._engine is not None:
            await self._engine.dispose()

    def _make_engine(self) -> AsyncEngine:
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import AsyncAdaptedQueuePool

        return create_async_engine(
            "sqlite+aiosqlite://", async_creator=self._connect, poolclass=AsyncAdaptedQueuePool, pool_size=CONNECTIONS
        )

    async def _connect(self) -> aiosqlite.Connection:
        import aiosqlite

        # A name in a URI, so that `mode=ro` can be said; as_uri() escapes what else would be read as part of it.
        connection = await aiosqlite.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
        await connection.execute("PRAGMA query_only=ON")
        return connection
