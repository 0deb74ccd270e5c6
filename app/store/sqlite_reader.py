"""Reading connections to the SQLite file for reports and lists, in threads: WAL lets them and the writer go on at once.

The plain driver in a thread, like the writer: SQLAlchemy's async engine costs a process 5 MB, its first answer 0.1 s.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from app.store.database import compiled
from app.store.reader import CONNECTIONS

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa

    from app.store.database import SqlStatement


class SqliteReader:
    """A Reader. Opens connections as they are needed, and keeps a few."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    async def rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        """All rows of the answer, by column name; the caller keeps it small. Raises sqlite3.Error."""
        return await asyncio.to_thread(self._read, compiled(statement))

    async def close(self) -> None:
        """Harmless when nothing was ever read."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _read(self, statement: SqlStatement) -> list[dict[str, Any]]:
        connection = self._idle.pop() if self._idle else self._open()
        try:
            cursor = connection.execute(statement.text, statement.values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        finally:
            if self._closed or len(self._idle) >= CONNECTIONS:
                connection.close()
            else:
                self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        # A name in a URI, so that `mode=ro` can be said; as_uri() escapes what else would be read as part of it.
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        return connection
