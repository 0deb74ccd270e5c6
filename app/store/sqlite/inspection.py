"""Checks the SQLite file and the files beside it. It only reads, so it may run beside a server."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.store.faults import StoreBusy, StoreFault
from app.store.lock import StoreLock, held_since
from app.store.query.inspection import limited, one, spool_findings, sum_findings
from app.store.schema import revisions
from app.store.schema.tables import IN_PROGRESS, records
from app.store.sqlite import schema
from app.store.sqlite.dialect import compiled


async def inspect(state_dir: Path, path: Path) -> list[str]:
    """What is wrong with the database and the files beside it, a sentence each. Raises StoreFault or OSError."""
    revision = await asyncio.to_thread(schema.current_revision, path)
    if revision is None:
        return [f"there is no database {path}"]
    if revision != revisions.HEAD:
        return [f"the schema is {revision}, not {revisions.HEAD}: {revisions.remedy(revision)}"]
    try:
        with contextlib.closing(_connect(path)) as connection:
            left_open = await _open_findings(state_dir, connection)
            return [*left_open, *spool_findings(state_dir), *await asyncio.to_thread(_findings, connection)]
    except sqlite3.Error as error:
        raise StoreFault(f"{path} cannot be read: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _findings(connection: sqlite3.Connection) -> list[str]:
    broken = limited(_integrity_findings(connection))
    if broken:
        return broken  # anything else would only be a consequence
    return [*limited(_key_findings(connection)), *sum_findings(_SqliteLook(connection))]


class _SqliteLook:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
        form = compiled(statement)
        return self._connection.execute(form.text, form.values).fetchall()

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        yield
        self._connection.execute("COMMIT")


async def _open_findings(state_dir: Path, connection: sqlite3.Connection) -> list[str]:
    """Open calls of ended processes. While a server runs: those that began before it did."""
    left_open = records.c.outcome == IN_PROGRESS
    count = sa.select(sa.func.count()).select_from(records)
    try:
        lock = await StoreLock.acquire(state_dir, 0)
    except StoreBusy:
        before = records.c.started_at < held_since(state_dir)
        found = one(_SqliteLook(connection), count.where(left_open, before))
    else:
        found = one(_SqliteLook(connection), count.where(left_open))
        lock.release()
    return [f"calls open though their process has ended: {found}; the next start closes them"] if found else []


def _integrity_findings(connection: sqlite3.Connection) -> Iterator[str]:
    try:
        yield from (f"integrity: {line}" for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok")
    except sqlite3.DatabaseError as error:
        yield f"integrity: {error}"


def _key_findings(connection: sqlite3.Connection) -> Iterator[str]:
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"foreign keys: a row of {table} names one of {parent} that is not there"
