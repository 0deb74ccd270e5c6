"""Read-only connections for reports and lists, apart from the writer: SQLite in WAL mode lets both go on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import aiosqlite
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine


class Reader:
    """Makes its engine when it is first asked something: SQLAlchemy's async part costs a start 0.1 s and 8 MB."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: AsyncEngine | None = None

    async def rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        """All rows of the answer, by column name; the caller keeps it small. The connection is closed again."""
        if self._engine is None:
            self._engine = self._make_engine()
        async with self._engine.connect() as connection:
            return [dict(row.items()) for row in (await connection.execute(statement)).mappings()]

    async def close(self) -> None:
        """Harmless when nothing was ever read."""
        if self._engine is not None:
            await self._engine.dispose()

    def _make_engine(self) -> AsyncEngine:
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        return create_async_engine("sqlite+aiosqlite://", async_creator=self._connect, poolclass=NullPool)

    async def _connect(self) -> aiosqlite.Connection:
        import aiosqlite

        # A name in a URI, so that `mode=ro` can be said; as_uri() escapes what else would be read as part of it.
        connection = await aiosqlite.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
        await connection.execute("PRAGMA query_only=ON")
        return connection
