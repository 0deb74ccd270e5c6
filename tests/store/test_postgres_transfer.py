"""An SQLite installation moves over whole, or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from app.domain.identity.keys import StoredKey
from app.gateway.usage_query import UsageQuery
from app.store.faults import StoreBusy, StoreFault
from app.store.opening import opened_store
from app.store.postgres import inspection, transfer
from app.store.postgres.address import PostgresAddress
from app.store.schema.rollups import HOUR_MICROSECONDS
from app.store.sqlite.store import DATABASE_NAME
from app.store.store import Store
from tests.store.samples import START, Samples, settle, some_records, until

KEYS = [
    StoredKey("a", "alice", b"\0\xff" * 16, 1, None, None, "b"),
    StoredKey("b", "alice", b"\1" * 32, 2, 2**60, None),
    StoredKey("c", "bob", b"\2" * 32, 3, None, 4),
]


async def told(store: Store) -> list[object]:
    """All that can be asked of a store."""
    totals = [
        dict(row)
        for by in (None, "client", "model", "day", "hour")
        for row in await store.reports.totals(UsageQuery(by=by))
    ]
    records = [record async for record in store.reports.records(UsageQuery())]
    return [*await store.clients.list_keys(), *await store.clients.list_clients(), *totals, *records]


async def filled(state_dir: Path) -> list[object]:
    now = START + 50 * HOUR_MICROSECONDS
    async with opened_store(None, state_dir, now=lambda: now) as store:
        for key in KEYS:
            await store.clients.add_key(key)
        await settle(store.ledger, *some_records(2_500), Samples(9).settled(START))
        await until(lambda: _folded(state_dir) > START)
        return await told(store)


def _folded(state_dir: Path) -> int:
    with closing(sqlite3.connect(state_dir / DATABASE_NAME)) as connection:
        (found,) = connection.execute("SELECT folded_until FROM ledger_progress").fetchone()
        return int(found)


async def test_everything_moves_over(tmp_path: Path, postgres_url: str) -> None:
    before = await filled(tmp_path)
    copied = await transfer.transfer(tmp_path, PostgresAddress(postgres_url))
    assert (copied["records"], copied["keys"], copied["clients"]) == (2_501, 3, 2)
    async with opened_store(postgres_url, tmp_path) as store:
        assert await told(store) == before
        await settle(store.ledger, Samples(10).settled(START))  # into an hour and a day that were moved
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path) == []


async def test_what_waits_in_the_spool_moves_too(tmp_path: Path, postgres_url: str) -> None:
    await filled(tmp_path)
    late = Samples(11).settled()
    async with opened_store(None, tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await settle(store.ledger, late)
            await store.close()
    copied = await transfer.transfer(tmp_path, PostgresAddress(postgres_url))
    assert copied["records"] == 2_502


async def test_a_target_in_use_and_a_source_in_use_are_refused(tmp_path: Path, postgres_url: str) -> None:
    await filled(tmp_path / "one")
    async with opened_store(None, tmp_path / "one"):
        with pytest.raises(StoreBusy):
            await transfer.transfer(tmp_path / "one", PostgresAddress(postgres_url))
    async with opened_store(postgres_url, tmp_path / "two") as store:
        await store.clients.add_key(KEYS[0])
    with pytest.raises(StoreFault, match="is not empty: there are rows in clients"):
        await transfer.transfer(tmp_path / "one", PostgresAddress(postgres_url))
    with pytest.raises(StoreFault, match="there is no database"):
        await transfer.transfer(tmp_path / "nowhere", PostgresAddress(postgres_url))


async def test_what_cannot_be_copied_leaves_nothing_behind(tmp_path: Path, postgres_url: str) -> None:
    await filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute(
            "UPDATE records SET retry_count = 'many' WHERE request_id = (SELECT max(request_id) FROM records)"
        )
        connection.commit()
    with pytest.raises(StoreFault):
        await transfer.transfer(tmp_path, PostgresAddress(postgres_url))
    with psycopg.connect(postgres_url) as connection_there:
        counts = connection_there.execute(
            "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM keys)"
        ).fetchone()
        assert counts == (0, 0)


async def test_odd_texts_of_sqlite_are_mended(tmp_path: Path, postgres_url: str) -> None:
    async with opened_store(None, tmp_path) as store:
        await settle(store.ledger, Samples(1).settled(START, model_requested="a\0b", model_served="m" * 5_000))
    await transfer.transfer(tmp_path, PostgresAddress(postgres_url))
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path) == []
