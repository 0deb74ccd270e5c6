"""Reading connections to the SQLite file for reports and lists, in threads: WAL lets them and the writer go on at once.

The plain driver in a thread, like the writer: SQLAlchemy's async engine costs a process 5 MB, its first answer 0.1 s.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from app.store.query.reader import CONNECTIONS
from app.store.schema.sql import SqlStatement, prepared
from app.store.sqlite.dialect import DIALECT, compiled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import sqlalchemy as sa

    from app.store.schema.sql import Prepared


class SqliteReader:
    """A Reader. Opens connections at need, and keeps a few."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._texts: dict[sa.Select[Any], Prepared] = {}
        self._threads = ThreadPoolExecutor(CONNECTIONS, "reports")  # their own: nobody's calls wait behind reports

    async def rows(self, statement: sa.Select[Any], values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See Reader. Raises sqlite3.Error."""
        if self._closed:  # a server that ends may still be asked for a budget
            return await asyncio.to_thread(self._read, statement, values)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, statement, values)

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._threads.shutdown(wait=False)
        while self._idle:
            self._idle.pop().close()

    def _read(self, statement: sa.Select[Any], values: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """In a thread, and so is the making of SQL."""
        text, given = compiled(statement) if values is None else self._prepared(statement, values)
        connection = self._idle.pop() if self._idle else self._open()
        try:
            cursor = connection.execute(text, given)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        finally:
            if self._closed or len(self._idle) >= CONNECTIONS:
                connection.close()
            else:
                self._idle.append(connection)

    def _prepared(self, statement: sa.Select[Any], values: Mapping[str, Any]) -> SqlStatement:
        text, names = self._texts.get(statement) or self._texts.setdefault(statement, prepared(statement, DIALECT))
        return SqlStatement(text, tuple([values.get(name, own) for name, own in names]))

    def _open(self) -> sqlite3.Connection:
        # A name in a URI, so that `mode=ro` can be said; as_uri() escapes what else would be read as part of it.
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        return connection
