"""What the ledger does for its cost: lazy admissions, batches, and nobody waits for ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.domain.records import Outcome, Record
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.store import SqliteStore, open_store
from app.store.write.ledger import LONGEST_WAIT_SECONDS, OPEN_ROW_AFTER_SECONDS, BatchLedger
from app.store.write.pending import Pending
from app.store.write.stats import COMMIT_BOUNDS_SECONDS, LedgerStats
from app.store.write.writer import Writer
from tests.store.samples import PATIENCE_SECONDS, Samples, make_database, settle, stored, until


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hanging_until(hold: threading.Event) -> Callable[[list[Record]], None]:
    def hook(records: list[Record]) -> None:
        hold.wait(PATIENCE_SECONDS)

    return hook


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path, clock=clock) as store:
        yield store


async def test_a_call_gets_a_row_only_when_it_is_open_for_a_while(
    store: SqliteStore, clock: HandClock, tmp_path: Path
) -> None:
    samples = Samples()
    long_one, short_one = samples.open(), samples.settled()
    store.ledger.admit(long_one)
    clock.now += OPEN_ROW_AFTER_SECONDS - 0.01
    store.ledger.admit(short_one)
    store.ledger.sweep()
    await settle(store.ledger, samples.settled())
    assert long_one.request_id not in stored(tmp_path)
    clock.now += 0.01
    store.ledger.sweep()
    store.ledger.sweep()
    await settle(store.ledger, samples.settled())
    assert stored(tmp_path)[long_one.request_id] == "in_progress"
    assert short_one.request_id not in stored(tmp_path)
    assert store.ledger.stats.admitted == 1


async def test_the_ledger_looks_by_itself_for_calls_that_grow_old(
    store: SqliteStore, clock: HandClock, tmp_path: Path
) -> None:
    record = Samples().open()
    store.ledger.admit(record)
    clock.now += 1
    await until(lambda: record.request_id in stored(tmp_path))


async def test_a_row_of_an_open_call_says_so_although_its_record_is_half_written(
    store: SqliteStore, clock: HandClock, tmp_path: Path
) -> None:
    record = Samples().open()
    store.ledger.admit(record)
    record.outcome = Outcome.COMPLETED
    clock.now += 1
    store.ledger.sweep()
    await settle(store.ledger, Samples(2).settled())
    assert stored(tmp_path)[record.request_id] == "in_progress"
    await settle(store.ledger, record)
    assert stored(tmp_path)[record.request_id] == "completed"


async def test_calls_that_settle_soon_have_no_row_written_twice(
    store: SqliteStore, clock: HandClock, tmp_path: Path
) -> None:
    samples = Samples()
    for _ in range(50):
        record = samples.settled()
        store.ledger.admit(record)
        await settle(store.ledger, record)
        clock.now += 1
        store.ledger.sweep()
    assert store.ledger.stats.admitted == 0
    assert len(stored(tmp_path)) == 50


async def test_settlements_that_come_together_share_commits(store: SqliteStore) -> None:
    samples = Samples()
    await settle(store.ledger, *[samples.settled() for _ in range(500)])
    stats = store.ledger.stats
    assert stats.settled == 500
    assert stats.commits <= 10
    assert sum(stats.commit_buckets) == stats.commits
    assert len(stats.commit_buckets) == len(COMMIT_BOUNDS_SECONDS) + 1
    assert stats.commit_seconds >= stats.commit_seconds_last > 0


async def test_a_batch_wakes_the_loop_once(tmp_path: Path) -> None:
    stats = LedgerStats()
    writer = Writer(SqliteBackend(make_database(tmp_path)), stats)
    ledger = BatchLedger(writer, stats, clock=HandClock())
    deliveries: list[int] = []

    def deliver(batch: list[Pending]) -> None:
        deliveries.append(len(batch))
        ledger.deliver(batch)

    await writer.start(deliver, ledger.in_flight)
    samples = Samples()
    await settle(ledger, *[samples.settled() for _ in range(100)])
    await ledger.close(PATIENCE_SECONDS)
    assert sum(deliveries) == 100
    assert len(deliveries) == stats.commits


async def test_the_hook_hears_of_each_settled_record_in_the_writers_thread(tmp_path: Path) -> None:
    heard: list[Record] = []
    threads: set[str] = set()

    def hook(records: list[Record]) -> None:
        threads.add(threading.current_thread().name)
        heard.extend(records)

    samples = Samples()
    records = [samples.settled() for _ in range(30)]
    async with open_store(tmp_path, on_committed=hook) as store:
        store.ledger.admit(samples.open())
        await settle(store.ledger, *records)
    assert heard == records
    assert threads == {"ledger-writer"}


async def test_a_hook_that_fails_is_counted_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(records: list[Record]) -> None:
        raise RuntimeError("of the hook's own")

    samples = Samples()
    async with open_store(tmp_path, on_committed=hook) as store:
        for _ in range(3):
            await settle(store.ledger, samples.settled())
        await until(lambda: store.ledger.stats.failed_hooks == 3)
        assert store.health().ok
    assert "The hook after a commit failed" in caplog.text
    assert len(stored(tmp_path)) == 3


async def test_nobody_waits_for_a_writer_that_hangs(tmp_path: Path, clock: HandClock) -> None:
    hold = threading.Event()
    samples = Samples()
    async with open_store(tmp_path, clock=clock, on_committed=hanging_until(hold)) as store:
        await settle(store.ledger, samples.settled())
        let_go = asyncio.Event()
        stuck = samples.settled()
        store.ledger.settle(stuck, let_go.set)
        clock.now += LONGEST_WAIT_SECONDS - 0.01
        store.ledger.sweep()
        assert not let_go.is_set()
        assert store.health().ok
        clock.now += 0.01
        assert store.health().problem == "a commit takes longer than 2 s"
        store.ledger.sweep()
        assert let_go.is_set()
        assert store.ledger.stats.released_early == 1
        assert stuck.request_id not in stored(tmp_path)
        hold.set()
    assert stuck.request_id in stored(tmp_path)


async def test_a_full_queue_drops_counts_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    stats = LedgerStats()
    hold = threading.Event()
    writer = Writer(SqliteBackend(make_database(tmp_path)), stats, hanging_until(hold))
    ledger = BatchLedger(writer, stats, clock=HandClock(), capacity=5)
    await writer.start(ledger.deliver, ledger.in_flight)
    samples = Samples()
    await settle(ledger, samples.settled())
    for _ in range(5):
        assert ledger.keeps
        ledger.settle(samples.settled(), lambda: None)
    assert (stats.queue_depth, stats.overflowed) == (5, 0)
    assert not ledger.keeps
    await settle(ledger, samples.settled())
    assert (stats.queue_depth, stats.overflowed, stats.dropped) == (5, 1, 1)
    hold.set()
    assert await ledger.close(PATIENCE_SECONDS)
    assert (stats.queue_depth, stats.settled) == (0, 6)
