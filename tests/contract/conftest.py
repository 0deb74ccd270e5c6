"""The forms of the store that pass the contract suites. PostgreSQL's will be a second class and a second parameter."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from app.store.sqlite import SqliteStore, open_store
from tests.store.samples import stored


class SqliteForm:
    """One database, opened as often as a test likes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, **options: Any) -> AbstractAsyncContextManager[SqliteStore]:  # noqa: ANN401 - as open_store has them
        return open_store(self.directory, **options)

    def stored(self) -> dict[str, str]:
        """Request id -> outcome, read by a connection of its own."""
        return stored(self.directory)


@pytest.fixture(params=["sqlite"])
def form(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteForm:
    forms = {"sqlite": SqliteForm}
    return forms[request.param](tmp_path / "state")


@pytest.fixture
async def store(form: SqliteForm) -> AsyncIterator[SqliteStore]:
    async with form.open() as store:
        yield store
