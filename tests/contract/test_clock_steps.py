"""The wall clock is set while calls go on, by hours and both ways; nothing is lost, doubled, misplaced or deleted.

The real gateway over the real store; upstream, the clients and both clocks are the test's.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.records import Outcome, Record
from app.gateway.exchange.ending import Ending
from app.gateway.usage_query import UsageQuery
from app.gateway.wall_clock import DOUBT_SECONDS, MonotonicWallClock
from app.store.schema.rollups import HOUR_MICROSECONDS
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME, SqliteStore, open_store
from tests.gateway.forms import NOW, HandCall, TwoClocks
from tests.gateway.house import COMPLETED, CREATED, House, Visit
from tests.store.samples import PATIENCE_SECONDS, Samples, settle, until

STEPS_HOURS = (0, 3, -7, 26, -50, 1, -1, 700, -690)
SECONDS = 2.5


class Town(TwoClocks):
    """A house whose ledger is real, and whose clocks go apart."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()

    def move_in(self, store: SqliteStore) -> None:
        services = replace(self.house.services, ledger=store.ledger, clock=self.clock)
        self.house.gateway._services = services

    def begin(self) -> tuple[Visit, HandCall]:
        visit = self.house.visit()
        call = visit.upstream
        call.stream_head()
        call.data(CREATED)
        return visit, call

    async def end(self, call_of: tuple[Visit, HandCall]) -> Record:
        visit, call = call_of
        call.data(COMPLETED)
        call.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while visit.client.ending is None:  # noqa: ASYNC110 - the commit is a thread's
                await asyncio.sleep(0.005)
        return visit.exchange.record


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
async def store(town: Town, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    calendar = MonotonicWallClock(town.clock)
    async with open_store(tmp_path, clock=town.clock.monotonic, now=calendar.now, retention_days=1) as store:
        town.move_in(store)
        yield store


async def tend(store: SqliteStore) -> None:
    """Let the upkeep take its next round of steps now."""
    upkeep = store._writer._write_path._maintenance
    upkeep._next_at = 0.0
    await settle(store.ledger, Samples(99).settled(NOW, client="caretaker"))  # wakes the writer
    await until(lambda: (upkeep._next_at or 0) > 0)


async def read_back(store: SqliteStore, query: UsageQuery | None = None) -> list[Record]:
    return [record async for record in store.reports.records(query or UsageQuery(client="alice"))]


async def test_calls_over_which_the_clock_is_set(town: Town, store: SqliteStore, tmp_path: Path) -> None:
    made = []
    for hours in STEPS_HOURS:
        long_one, short_one = town.begin(), town.begin()
        town.go_on(SECONDS / 2)
        store.ledger.sweep()  # both have a row from now on
        town.wall += hours * HOUR_MICROSECONDS
        town.go_on(SECONDS / 2)
        made += [await town.end(short_one), await town.end(long_one)]
        await tend(store)
    kept = await read_back(store)
    assert sorted(record.request_id for record in made) == [record.request_id for record in kept]
    assert kept == sorted(kept, key=lambda record: record.started_at)
    for record in kept:
        assert (record.outcome, record.duration_ms) == (Outcome.COMPLETED, SECONDS * 1000)
        assert record.finished_at == record.started_at + round(SECONDS * 1_000_000)
        at = UsageQuery(client="alice", since=record.started_at, until=record.started_at + 1)
        assert record in await read_back(store, at)
    for by in (None, "hour", "day", "model"):
        rows = await store.reports.totals(UsageQuery(client="alice", by=by))
        assert sum(row["requests"] for row in rows) == sum(row["completed"] for row in rows) == len(made)
        assert sum(row["total_tokens"] for row in rows) == 57 * len(made)
    assert await inspect(tmp_path, tmp_path / DATABASE_NAME) == []


async def test_a_clock_that_is_ahead_for_a_while_deletes_nothing(town: Town, store: SqliteStore) -> None:
    await town.end(town.begin())
    town.wall += 10_000 * HOUR_MICROSECONDS
    await tend(store)
    await tend(store)
    assert len(await read_back(store)) == 1
    town.go_on(DOUBT_SECONDS)  # it was set right, then
    while not store.ledger.stats.deleted:
        await tend(store)
    assert await read_back(store) == []
    (totals,) = await store.reports.totals(UsageQuery(client="alice"))
    assert (totals["requests"], totals["total_tokens"]) == (1, 57)


async def test_the_clock_was_set_back_while_the_server_was_down(town: Town, tmp_path: Path) -> None:
    calendar = MonotonicWallClock(town.clock)
    for hours in (0, -30, 45):
        town.wall += hours * HOUR_MICROSECONDS
        async with open_store(tmp_path, clock=town.clock.monotonic, now=calendar.now) as store:
            town.move_in(store)
            left_open = town.begin()
            town.go_on(SECONDS)
            store.ledger.sweep()
            await town.end(town.begin())
        left_open[0].exchange.end_by(Ending.DOOR_FAILED)  # its process is no more
    async with open_store(tmp_path) as store:
        kept = await read_back(store)
    assert len({record.request_id for record in kept}) == 6
    assert sorted(str(record.outcome) for record in kept) == ["completed"] * 3 + ["interrupted"] * 3
    assert await inspect(tmp_path, tmp_path / DATABASE_NAME) == []
