"""Old records go, in small steps and with pauses; their sums stay; and the file stops growing."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.gateway.usage_query import UsageQuery
from app.store.schema.rollups import DAY_MICROSECONDS, HOUR_MICROSECONDS, hour_of
from app.store.schema.rows import Rows, open_row_of, row_of
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import open_store
from app.store.write.ledger_database import LedgerDatabase
from app.store.write.maintenance import ROWS_A_STEP, Maintenance
from tests.store.samples import START, Samples, make_database, settle, some_records, stored, until

NOW = START + 100 * DAY_MICROSECONDS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[LedgerDatabase]:
    with closing(LedgerDatabase(SqliteBackend(make_database(tmp_path)))) as database:
        yield database


def test_steps_are_small_and_have_pauses(database: LedgerDatabase, tmp_path: Path) -> None:
    samples = Samples()
    old = [row_of(samples.settled(START + number)) for number in range(ROWS_A_STEP + 1)]
    database.write(Rows([open_row_of(samples.open(START))], [*old, row_of(samples.settled(NOW - DAY_MICROSECONDS))]))
    upkeep = Maintenance(90, lambda: NOW)
    assert upkeep.wait_seconds(100.0) > 0
    assert not upkeep.due(100.0, idle=True)
    at, deleted = 200.0, []
    while upkeep.due(at, idle=True):
        deleted.append(upkeep.step(database, at))
        assert not upkeep.due(at, idle=True)
        at += 1
    assert deleted == [0, 0, ROWS_A_STEP, 1]  # two days were added up first
    assert upkeep.wait_seconds(at) > 60
    assert sorted(stored(tmp_path).values()) == ["completed", "in_progress"]


def test_a_writer_that_is_never_idle_finds_the_time_all_the_same(database: LedgerDatabase) -> None:
    upkeep = Maintenance(90, lambda: NOW)
    upkeep.wait_seconds(100.0)
    due = 100.0 + upkeep.wait_seconds(100.0)
    assert upkeep.due(due, idle=True)
    assert not upkeep.due(due, idle=False)
    assert upkeep.due(due + 5, idle=False)


def test_without_a_number_of_days_all_is_kept(database: LedgerDatabase, tmp_path: Path) -> None:
    database.write(Rows(settled=[row_of(Samples().settled(START))]))
    upkeep = Maintenance(None, lambda: NOW)
    for at in range(0, 100_000, 1000):
        assert upkeep.step(database, at) == 0
    assert len(stored(tmp_path)) == 1


async def test_totals_stay_when_records_go(tmp_path: Path) -> None:
    now = [START]
    records = some_records(300)
    cutoff = hour_of(START + 150 * 97_000_000)
    async with open_store(tmp_path, now=lambda: now[0], retention_days=90) as store:
        await settle(store.ledger, *records)
        queries = [
            UsageQuery(by=by, since=since, client=client)
            for by in (None, "client", "model", "hour", "day")
            for since in (None, hour_of(START), cutoff - HOUR_MICROSECONDS, cutoff + 1)
            for client in (None, "alice")
        ]
        before = [await store.reports.totals(query) for query in queries]
        now[0] = cutoff + 90 * DAY_MICROSECONDS
        store._writer._write_path._maintenance._next_at = 0.0
        await until(lambda: store.ledger.stats.deleted > 0)
        kept = [record async for record in store.reports.records(UsageQuery())]
        assert kept == [record for record in records if record.started_at >= cutoff]
        assert 0 < len(kept) < 300
        assert [await store.reports.totals(query) for query in queries] == before
        # A bound within an hour of which no record is kept takes the whole hour.
        since = hour_of(START)
        rounded = [UsageQuery(since=since + 5, until=since + HOUR_MICROSECONDS + 5, bucket_offset=offset, by=by)
                   for offset in (0, HOUR_MICROSECONDS // 2) for by in ("client", "day")]  # fmt: skip
        for query in rounded:
            found = await store.reports.totals(query)
            whole = UsageQuery(since=since, until=since + 2 * HOUR_MICROSECONDS)
            assert sum(row["requests"] for row in found) == (await store.reports.totals(whole))[0]["requests"]
        assert (await store.reports.totals(UsageQuery(since=since + 5, until=since + 5)))[0]["requests"] == 0
    assert await inspect(tmp_path, tmp_path / "weighbridge.db") == []


@pytest.mark.parametrize("rows_a_day", [200, pytest.param(5_000, marks=pytest.mark.long)])
def test_in_the_steady_state_the_file_does_not_grow(tmp_path: Path, rows_a_day: int) -> None:
    """So many records come as go: pages that become free are used again, and no VACUUM is needed."""
    path = make_database(tmp_path)
    samples = Samples()
    sizes = []
    with closing(LedgerDatabase(SqliteBackend(path))) as database:
        database.connection.execute("PRAGMA synchronous=OFF")
        for day in range(40):
            begin = START + day * DAY_MICROSECONDS
            for batch in range(10):
                rows = [row_of(samples.settled(begin + batch * 7_200_000_000 + n)) for n in range(rows_a_day // 10)]
                database.write(Rows(settled=rows))
            while database.delete_before(hour_of(begin - 9 * DAY_MICROSECONDS), ROWS_A_STEP):
                pass
            database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(path.stat().st_size)
    assert sizes[-1] < sizes[12] * 1.05
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone()[0] <= 10 * rows_a_day + 1
