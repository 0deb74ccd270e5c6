"""The forms of the store that pass the contract suites: SQLite, and PostgreSQL on a server of the tests' own."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from app.store.opening import opened_store
from app.store.sqlite.store import DATABASE_NAME
from app.store.store import Store
from tests.store.samples import stored


class Form(Protocol):
    """One database, opened as often as a test likes."""

    @property
    def directory(self) -> Path:
        """The state directory."""

    @property
    def url(self) -> str | None:
        """Of the database, unless it is a file."""

    def open(self, **options: Any) -> AbstractAsyncContextManager[Store]:  # noqa: ANN401 - as opened_store has them
        """The store. What was left open counts as dead at once."""

    def stored(self) -> dict[str, str]:
        """Request id -> outcome, read by a connection of its own."""

    def folded_until(self) -> int:
        """How far days have been added up."""


class SqliteForm:
    url = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, **options: Any) -> AbstractAsyncContextManager[Store]:  # noqa: ANN401
        return opened_store(None, self.directory, **options)

    def stored(self) -> dict[str, str]:
        return stored(self.directory)

    def folded_until(self) -> int:
        with closing(sqlite3.connect(self.directory / DATABASE_NAME)) as connection:
            (found,) = connection.execute("SELECT folded_until FROM ledger_progress").fetchone()
            return int(found)


class PostgresForm:
    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory

    def open(self, **options: Any) -> AbstractAsyncContextManager[Store]:  # noqa: ANN401
        return opened_store(self.url, self.directory, lease_seconds=0.0, **options)

    def stored(self) -> dict[str, str]:
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT request_id, outcome FROM records").fetchall()
        assert len(rows) == len({row[0] for row in rows})
        return dict(rows)

    def folded_until(self) -> int:
        with psycopg.connect(self.url) as connection:
            (found,) = connection.execute("SELECT folded_until FROM ledger_progress").fetchall()[0]
            return int(found)


@pytest.fixture(params=["sqlite", "postgres"])
def form(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Form]:
    if request.param == "sqlite":
        yield SqliteForm(tmp_path / "state")
    else:
        yield PostgresForm(request.getfixturevalue("postgres_url"), tmp_path / "state")


@pytest.fixture
async def store(form: Form) -> AsyncIterator[Store]:
    async with form.open() as store:
        yield store
