"""Moves an SQLite installation to an empty PostgreSQL database: all of it, or nothing.

lock the directory ─▶ replay the spool ─▶ one transaction: lock the target, it is empty ─▶ copy ─▶ recount ─▶ commit
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from app.store.faults import StoreFault
from app.store.lock import StoreLock
from app.store.postgres import schema, statements
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import words_of
from app.store.postgres.inspection import PostgresLook
from app.store.postgres.rows import LONGEST_MODEL
from app.store.schema import sql
from app.store.schema.tables import metadata, progress
from app.store.sqlite.dialect import compiled
from app.store.sqlite.store import DATABASE_NAME, SqliteStore

_ROWS_A_STEP = 1_000
_PRIME = 1_000_003
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0
_ALONE = """
LOCK TABLE clients, client_groups, keys, audit, records, rollups, daily_rollups, ledger_progress
IN ACCESS EXCLUSIVE MODE
"""
_MODELS = frozenset({"model", "model_requested", "model_served"})


async def transfer(state_dir: Path, address: PostgresAddress) -> dict[str, int]:
    """Copy everything; gives the rows by table. The SQLite file stays as it is.

    Raises StoreFault: StoreBusy while a server runs here, or when the target is not empty or not what was copied.
    """
    path = state_dir / DATABASE_NAME
    if not path.exists():
        raise StoreFault(f"there is no database {path}")
    await _settle(state_dir)
    lock = await StoreLock.acquire(state_dir, 0)
    try:
        await asyncio.to_thread(schema.upgrade, address)
        return await asyncio.to_thread(_copy, path, address)
    finally:
        lock.release()


async def _settle(state_dir: Path) -> None:
    """Bring the schema up to date, replay the spool and close what was left open."""
    store = await SqliteStore.open(state_dir)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while store.health().spooled:  # noqa: ASYNC110 - the writer's thread works it off
                    await asyncio.sleep(_LOOK_SECONDS)
        if store.health().spooled:
            raise StoreFault("records wait in the spool, and the SQLite file does not take them")
    finally:
        await store.close()


def _copy(path: Path, address: PostgresAddress) -> dict[str, int]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    copied = {}
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True)) as source,
            psycopg.connect(**address.parameters()) as target,
        ):
            target.execute(_ALONE)
            _refuse_used(target, address)
            target.execute(sql.compiled(sa.delete(progress), statements.DIALECT).text)
            for table in metadata.sorted_tables:
                copied[table.name] = _copy_table(table, source, target)
                _compare(table, source, target)
    except sqlite3.Error as error:
        raise StoreFault(f"{path} cannot be read: {error}") from error
    except psycopg.Error as error:
        raise StoreFault(f"{address}: {words_of(error)}") from error
    return copied


def _refuse_used(target: "psycopg.Connection[tuple[Any, ...]]", address: PostgresAddress) -> None:
    look = PostgresLook(target)
    for table in metadata.sorted_tables:
        if table is not progress and look.rows(sa.select(sa.literal(1)).select_from(table).limit(1)):
            raise StoreFault(f"the database {address} is not empty: there are rows in {table.name}")


def _copy_table(table: sa.Table, source: sqlite3.Connection, target: "psycopg.Connection[tuple[Any, ...]]") -> int:
    read = compiled(sa.select(table))
    write = sql.compiled(_insert_many(table), statements.DIALECT).text
    models = [place for place, column in enumerate(table.c) if column.name in _MODELS]
    truths = [place for place, column in enumerate(table.c) if isinstance(column.type, sa.Boolean)]
    cursor = source.execute(read.text, read.values)
    count = 0
    while rows := cursor.fetchmany(_ROWS_A_STEP):
        columns = [list(map(_acceptable, column)) for column in zip(*rows, strict=True)]
        for place in models:
            columns[place] = [value[:LONGEST_MODEL] if isinstance(value, str) else value for value in columns[place]]
        for place in truths:
            columns[place] = [None if value is None else bool(value) for value in columns[place]]
        target.execute(write, columns)
        count += len(rows)
    return count


def _insert_many(table: sa.Table) -> sa.ClauseElement:
    return postgresql.insert(table).from_select([column.name for column in table.c], statements.given_rows(table))


def _acceptable(value: object) -> object:
    return value.replace("\0", "?") if isinstance(value, str) else value


def _compare(table: sa.Table, source: sqlite3.Connection, target: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """As many rows, and the same sums of each number. Of remainders: the sums themselves could overflow."""
    sums = [sa.func.sum(column % _PRIME) for column in _numbers(table)]
    known = [sa.func.count(column) for column in table.c]
    columns: list[sa.ColumnElement[Any]] = [sa.func.count(), *known, *sums]
    question = sa.select(*columns).select_from(table)
    form = compiled(question)
    expected: Sequence[Any] = source.execute(form.text, form.values).fetchone()
    (found,) = PostgresLook(target).rows(question)
    if tuple(expected) != tuple(found):
        raise StoreFault(f"{table.name} is not the same after it was copied; nothing was changed")


def _numbers(table: sa.Table) -> Iterator["sa.Column[int]"]:
    return (column for column in table.c if isinstance(column.type, sa.BigInteger))
