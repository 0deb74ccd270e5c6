"""The store as a whole: its files, its health, its end."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.gateway.usage_query import UsageQuery
from app.store.sqlite.reader import SqliteReader
from app.store.sqlite.store import DATABASE_NAME, SqliteStore, open_store
from tests.store.samples import Samples, settle, stored


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()}


@pytest.mark.usefixtures("careless_umask")
async def test_the_files_are_private(tmp_path: Path) -> None:
    state_dir = tmp_path / "new" / "state"
    async with open_store(state_dir) as store:
        await settle(store.ledger, Samples().settled())
        assert oct(stat.S_IMODE(state_dir.stat().st_mode)) == "0o700"
        names = ["", "-wal", "-shm"]
        private = {f"{DATABASE_NAME}{suffix}": "0o600" for suffix in names}
        assert modes(state_dir) == {**private, "weighbridge.lock": "0o600"}


async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    (tmp_path / DATABASE_NAME).chmod(0o644)
    async with open_store(tmp_path) as store:
        await settle(store.ledger, Samples().settled())
        assert set(modes(tmp_path).values()) == {"0o600"}


async def test_a_directory_with_an_odd_name_serves_as_well(tmp_path: Path) -> None:
    record = Samples().settled()
    async with open_store(tmp_path / "50% off? #1 ü") as store:
        await settle(store.ledger, record)
        assert [found async for found in store.reports.records(UsageQuery())] == [record]


async def test_a_clean_end_leaves_one_database_file_and_may_come_twice(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await settle(store.ledger, Samples().settled())
    assert store.health().ok
    assert len(await store.reports.totals(UsageQuery())) == 1
    await store.close()
    await store.close()
    assert set(modes(tmp_path)) == {DATABASE_NAME, "weighbridge.lock"}
    assert store.health().problem == "the ledger's writer has ended"
    assert len(stored(tmp_path)) == 1


async def test_reading_cannot_write(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        reader = SqliteReader(tmp_path / DATABASE_NAME)
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            await reader.rows(sa.text("DELETE FROM records"))  # type: ignore[arg-type]
        await reader.close()
