"""Reading connections to PostgreSQL for reports and lists, apart from the writer."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from app.domain.errors import StorageUnavailable
from app.store.postgres.connection import SESSION
from app.store.query.reader import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.store.postgres.address import PostgresAddress

LONGEST_SECONDS = 65.0
"""More than a statement may take by itself."""


class PostgresReader:
    """A Reader. Makes its engine at the first question: that costs 0.1 s and 8 MB."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._engine: AsyncEngine | None = None

    async def rows(self, statement: sa.Select[Any], values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See Reader. Raises StorageUnavailable when there is no answer."""
        from sqlalchemy.exc import DBAPIError

        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                found = await self._read(statement, values)
        except (DBAPIError, OSError, TimeoutError) as error:
            raise StorageUnavailable("The database does not answer at the moment.") from error
        # A sum of integers is a decimal number here, lest it overflow.
        return [{name: int(v) if type(v) is Decimal else v for name, v in row.items()} for row in found]

    async def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            await self._engine.dispose()

    async def _read(self, statement: sa.Select[Any], values: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        if self._engine is None:
            self._engine = self._make_engine()
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, values)
            names = list(map(str, result.keys()))  # a label may be of a class that orjson refuses as a key
            return [dict(zip(names, row, strict=True)) for row in result]

    def _make_engine(self) -> AsyncEngine:
        from sqlalchemy.ext.asyncio import create_async_engine

        return create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect_postgres,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_pre_ping=True,
        )

    async def _connect_postgres(self) -> psycopg.AsyncConnection[Any]:
        import psycopg

        connection = await psycopg.AsyncConnection.connect(**self._address.parameters(), autocommit=True)
        await connection.execute(SESSION)
        await connection.execute("SELECT set_config('default_transaction_read_only', 'on', false)")
        await connection.set_autocommit(False)
        return connection
