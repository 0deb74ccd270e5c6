"""Storage in trouble: streams go on, records go to the spool and come back, and health says what is wrong."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from app.domain.errors import StorageUnavailable
from app.domain.identity.keys import StoredKey
from app.domain.records import Record
from app.store.faults import StoreDamaged
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME, SqliteStore, open_store
from app.store.sqlite.write_connection import BUSY_MILLISECONDS
from app.store.write.ledger import BatchLedger
from app.store.write.stats import LedgerStats
from app.store.write.writer import Writer
from tests.store.samples import PATIENCE_SECONDS, Samples, make_database, settle, stored, until

REPOSITORY = Path(__file__).parents[2]
KEY = StoredKey("a", "alice", b"\0" * 32, 1, None, None)

# The disk is full for this process: first no file may grow beyond the size its WAL has, then no file at all.
FULL_DISK = """
import asyncio, os, resource, sys
from pathlib import Path
from app.store.sqlite.store import open_store
from tests.store.samples import Samples, settle, stored, until

async def main(state_dir):
    samples = Samples()
    async with open_store(state_dir) as store:
        await settle(store.ledger, *[samples.settled() for _ in range(10)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = os.stat(state_dir / "weighbridge.db-wal").st_size
        for limit in (size, 0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            for _ in range(20):
                await settle(store.ledger, samples.settled(price="x" * 500))
            full = store.health()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await until(lambda: store.health().ok)
        print(full.ok, full.keeps, full.queue_depth > 20, full.problem, store.health().keeps, store.health().dropped)

asyncio.run(main(Path(sys.argv[1])))
"""


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Another program has taken the database for itself."""
    with closing(sqlite3.connect(state_dir / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def no_spool(state_dir: Path) -> Iterator[None]:
    """Where the spool would be, there is something else."""
    (state_dir / "spool").touch()
    yield
    (state_dir / "spool").unlink()


def synced(path: Path) -> float:
    """How long this disk takes for what a batch in the spool costs, in seconds."""
    with path.open("ab", buffering=0) as file:
        before = time.perf_counter()
        file.write(b"x" * 700)
        os.fsync(file.fileno())
        return time.perf_counter() - before


def completed(*records: Record) -> dict[str, str]:
    return {record.request_id: "completed" for record in records}


async def test_a_lock_of_others_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(300)]
    # The clock stands still, so that it is the writer who lets callers go and not the ledger's last resort.
    async with open_store(tmp_path, clock=lambda: 0.0) as store:
        with locked(tmp_path):
            for start in range(0, 300, 100):
                await settle(store.ledger, *records[start : start + 100])  # would wait for ever
            assert stored(tmp_path) == {}
            health = store.health()
            assert (health.ok, health.problem, health.keeps) == (False, "database is locked", True)
            assert (health.queue_depth, health.spooled, store.ledger.stats.spooled) == (0, True, 300)
            with pytest.raises(StorageUnavailable):
                await store.clients.add_key(KEY)
            assert await store.clients.load_keys() == []
        await until(lambda: store.health().ok)
        assert stored(tmp_path) == completed(*records)
        assert not store.health().spooled
        await store.clients.add_key(KEY)
        await settle(store.ledger, samples.settled())
    stats = store.ledger.stats
    assert (stats.settled, stats.replayed, stats.queue_depth, stats.dropped, stats.released_early) == (1, 300, 0, 0, 0)
    assert stats.failed_commits >= 1
    assert await inspect(tmp_path, tmp_path / DATABASE_NAME) == []


async def test_only_the_first_batch_waits_for_a_lock_and_not_for_long(tmp_path: Path) -> None:
    samples = Samples()
    busy_seconds = BUSY_MILLISECONDS / 1000
    async with open_store(tmp_path, clock=lambda: 0.0) as store:
        await settle(store.ledger, samples.settled())
        with locked(tmp_path):
            waits = []
            for _ in range(20):
                before = time.perf_counter()
                await settle(store.ledger, samples.settled())
                waits.append(time.perf_counter() - before)
    assert waits[0] >= busy_seconds
    assert median(waits[1:]) < median(synced(tmp_path / "file") for _ in range(9)) + 0.8 * busy_seconds


async def test_what_is_in_the_spool_is_durable_and_reported_once(tmp_path: Path) -> None:
    heard: list[Record] = []
    records = [Samples(process).settled() for process in range(3)]
    async with open_store(tmp_path, on_committed=heard.extend, clock=lambda: 0.0) as store:
        await settle(store.ledger, records[0])
        with locked(tmp_path):
            await settle(store.ledger, records[1])
            (file,) = (tmp_path / "spool").iterdir()
            assert records[1].request_id in file.read_text()
            await until(lambda: heard == records[:2])  # told in the writer's thread, after the caller was let go
        await until(lambda: store.health().ok)
        await settle(store.ledger, records[2])
    assert heard == records
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_call_that_grew_old_while_locked_has_its_row_afterwards(tmp_path: Path) -> None:
    clock = [0.0]
    record = Samples().open()
    async with open_store(tmp_path, clock=lambda: clock[0]) as store:
        with locked(tmp_path):
            store.ledger.admit(record)
            clock[0] += 1
            store.ledger.sweep()
            await until(lambda: not store.health().ok)
        await until(lambda: store.health().ok)
        assert stored(tmp_path) == {record.request_id: "in_progress"}


async def test_amendments_do_not_overtake_the_record_in_the_spool(tmp_path: Path) -> None:
    record = Samples().settled(usage_source="none", input_tokens=None)
    async with open_store(tmp_path) as store:
        with locked(tmp_path):
            await settle(store.ledger, record)
            store.ledger.amend(replace(record, usage_source="settled", input_tokens=123))  # type: ignore[arg-type]
            await until(lambda: b"amended" in b"".join(file.read_bytes() for file in (tmp_path / "spool").iterdir()))
        await until(lambda: store.health().ok)
        await settle(store.ledger, Samples(2).settled())
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            tokens = connection.execute("SELECT input_tokens FROM records ORDER BY usage_source DESC").fetchall()
    assert tokens == [(123,), (1000,)]


async def test_the_end_in_time_of_trouble_is_quick_and_the_next_start_replays(tmp_path: Path) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(2_500)]
    left_open = samples.open()
    store = await SqliteStore.open(tmp_path)
    with locked(tmp_path):
        await settle(store.ledger, *records)
        store.ledger.admit(left_open)
        before = time.perf_counter()
        await store.close(PATIENCE_SECONDS)
        assert time.perf_counter() - before < PATIENCE_SECONDS / 2
        assert stored(tmp_path) == {}
    assert store.ledger.stats.dropped == 0
    async with open_store(tmp_path) as store:
        await until(lambda: store.health().ok)
        assert stored(tmp_path) == {**completed(*records), left_open.request_id: "interrupted"}
        assert store.ledger.stats.replayed == 2_500


async def test_a_start_while_locked_serves_and_spools_and_closes_what_was_open_later(tmp_path: Path) -> None:
    old_call, own_call, settled_late = Samples(1).open(), Samples(2).open(), Samples(3).open()
    clock = [0.0]
    async with open_store(tmp_path) as store:
        for record in (old_call, settled_late):
            store.ledger.admit(record)
    with locked(tmp_path):
        async with open_store(tmp_path) as store:
            await settle(store.ledger, Samples(3).settled())
        async with open_store(tmp_path, clock=lambda: clock[0]) as store:
            store.ledger.admit(own_call)
            clock[0] += 1
            store.ledger.sweep()
            await settle(store.ledger, replace(settled_late, outcome="completed"))  # type: ignore[arg-type]
            found = stored(tmp_path)
            assert found == {old_call.request_id: "in_progress", settled_late.request_id: "in_progress"}
        # and again without a chance to replay
    clock[0] = 0.0
    async with open_store(tmp_path, clock=lambda: clock[0]) as store:
        await until(lambda: store.health().ok)
        found = stored(tmp_path)
    assert found[old_call.request_id] == "interrupted"
    assert found[own_call.request_id] == "interrupted"
    assert found[settled_late.request_id] == "completed"
    assert len(found) == 4


async def test_without_database_and_spool_memory_keeps_what_it_can_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(50)]
    async with open_store(tmp_path) as store:
        assert store.ledger.keeps
        with locked(tmp_path), no_spool(tmp_path):
            await settle(store.ledger, *records)
            health = store.health()
            assert not store.ledger.keeps
            assert (health.ok, health.keeps, health.queue_depth, health.spooled) == (False, False, 50, True)
            assert health.problem is not None
            assert health.problem.startswith("database is locked; spool: [Errno 17] File exists")
        await until(lambda: store.health().ok)
        assert store.ledger.keeps
        assert stored(tmp_path) == completed(*records)
    assert store.ledger.stats.dropped == 0
    assert store.ledger.stats.failed_spools == 1
    assert "The spool does not take records either" in caplog.text


async def test_memory_keeps_no_more_than_the_queue_may_hold(tmp_path: Path) -> None:
    samples, stats = Samples(), LedgerStats()
    writer = Writer(SqliteBackend(make_database(tmp_path)), stats)
    ledger = BatchLedger(writer, stats, clock=lambda: 0.0, capacity=20)
    await writer.start(ledger.deliver, ledger.in_flight)
    with locked(tmp_path), no_spool(tmp_path):
        for _ in range(10):
            await settle(ledger, *[samples.settled() for _ in range(10)])
        assert (stats.queue_depth, stats.overflowed, ledger.keeps) == (20, 80, False)
    assert await ledger.close(PATIENCE_SECONDS)
    assert (stats.queue_depth, len(stored(tmp_path))) == (0, 20)


async def test_the_spool_takes_over_from_memory_once_it_can(tmp_path: Path) -> None:
    samples = Samples()
    async with open_store(tmp_path) as store:
        with locked(tmp_path):
            with no_spool(tmp_path):
                await settle(store.ledger, *[samples.settled() for _ in range(5)])
                assert store.health().queue_depth == 5
            await until(lambda: store.ledger.keeps)
            assert (store.health().queue_depth, store.ledger.stats.spooled) == (0, 5)
        await until(lambda: store.health().ok)
    assert len(stored(tmp_path)) == 5


async def test_an_end_without_any_storage_waits_its_time_and_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples()
    store = await SqliteStore.open(tmp_path)
    with locked(tmp_path), no_spool(tmp_path):
        let_go: list[int] = []
        for number in range(5):
            store.ledger.settle(samples.settled(), lambda number=number: let_go.append(number))  # type: ignore[misc]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.close(deadline_seconds=0.3)
    assert let_go == [0, 1, 2, 3, 4]
    assert store.ledger.stats.abandoned == 5
    assert "5 records were not stored before the end: database is locked" in caplog.text
    async with open_store(tmp_path):  # the lock of the directory was let go
        pass


async def test_a_connection_that_is_good_for_nothing_is_replaced(tmp_path: Path) -> None:
    samples = Samples()
    async with open_store(tmp_path, on_committed=lambda _: store._writer._write_path._database.close()) as store:
        for _ in range(3):
            await settle(store.ledger, samples.settled())
        await until(lambda: store.health().ok and len(stored(tmp_path)) == 3)
    assert store.ledger.stats.failed_commits >= 1


async def test_a_database_that_is_gone_is_noticed_and_taken_back(tmp_path: Path) -> None:
    samples = Samples()
    path = tmp_path / DATABASE_NAME
    async with open_store(tmp_path) as store:
        await settle(store.ledger, samples.settled())
        path.rename(tmp_path / "elsewhere")
        await until(lambda: store.health().problem == "the database file is gone")
        await settle(store.ledger, samples.settled())
        with pytest.raises(StorageUnavailable):
            await store.clients.add_key(KEY)
        assert not path.exists()
        assert store.ledger.keeps
        (tmp_path / "elsewhere").rename(path)
        await until(lambda: store.health().ok)
    assert len(stored(tmp_path)) == 2


async def test_a_database_that_was_replaced_is_left_alone_until_the_next_start(tmp_path: Path) -> None:
    samples = Samples()
    state_dir, other = tmp_path / "one", tmp_path / "two"
    async with open_store(other) as store:
        await settle(store.ledger, samples.settled())
    async with open_store(state_dir) as store:
        await settle(store.ledger, samples.settled())
        os.replace(other / DATABASE_NAME, state_dir / DATABASE_NAME)  # noqa: PTH105 - as a shell's mv does
        await until(lambda: "was replaced while in use: restart" in str(store.health().problem))
        await settle(store.ledger, samples.settled())
    async with open_store(state_dir) as store:
        await until(lambda: store.health().ok)
        assert len(stored(state_dir)) == 2
    assert await inspect(state_dir, state_dir / DATABASE_NAME) == []


async def test_damaged_lines_are_counted_and_the_rest_is_replayed(tmp_path: Path) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(5)]
    store = await SqliteStore.open(tmp_path)
    with locked(tmp_path):
        await settle(store.ledger, *records)
        await store.close()
    (file,) = (tmp_path / "spool").iterdir()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"completed", b"completes", 1) + b"half a li")
    async with open_store(tmp_path) as store:
        await until(lambda: store.health().ok)
        assert store.ledger.stats.damaged == 2
        assert stored(tmp_path) == completed(*records[1:])
    findings = await inspect(tmp_path, tmp_path / DATABASE_NAME)
    assert findings == ["spool: damaged lines were set aside in damaged-00000001.jsonl"]


async def test_a_damaged_database_stops_the_start(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await settle(store.ledger, *[Samples(process).settled() for process in range(200)])
    path = tmp_path / DATABASE_NAME
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        async with open_store(tmp_path):
            pass


def test_a_full_disk_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    child = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=3 * PATIENCE_SECONDS, check=True
    )
    assert child.stdout == "False False True disk I/O error; spool: [Errno 27] File too large True 0\n"
    assert list(stored(tmp_path).values()) == ["completed"] * 50
    assert asyncio.run(inspect(tmp_path, tmp_path / DATABASE_NAME)) == []
