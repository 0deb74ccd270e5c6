"""Checks that the parts of a PostgreSQL database and the directory of this process agree.

It only reads, and may run beside servers. PostgreSQL's own tools check its pages.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg as dialects

from app.store.faults import StoreFault
from app.store.postgres import schema
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import words_of
from app.store.query.inspection import spool_findings, sum_findings
from app.store.schema.revisions import HEAD, remedy


async def inspect(address: PostgresAddress, state_dir: Path) -> list[str]:
    """What is wrong, a sentence each. Raises StoreFault or OSError."""
    revision = await asyncio.to_thread(schema.current_revision, address)
    if revision != HEAD:
        return [f"the schema is {revision or 'missing'}, not {HEAD}: {remedy(revision)}"]
    try:
        return [*spool_findings(state_dir), *await asyncio.to_thread(_findings, address)]
    except psycopg.Error as error:
        raise StoreFault(f"{address}: {words_of(error)}") from error


def _findings(address: PostgresAddress) -> list[str]:
    with psycopg.connect(**address.parameters()) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return sum_findings(PostgresLook(connection))


class PostgresLook:
    """Reads within the transactions of `connection`, each of them as of one moment."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection
        self._dialect = dialects.dialect()  # type: ignore[no-untyped-call]

    def rows(self, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """All rows. Parameters go by name: one that stands in two places is the same in both (GROUP BY asks that)."""
        form = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        return self._connection.execute(form.string, form.params).fetchall()

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """Reads before it do not count."""
        self._connection.commit()
        yield
        self._connection.commit()
