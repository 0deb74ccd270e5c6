"""Storage in trouble: streams go on, nothing is lost while it can be kept, and health says what is wrong."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.domain.errors import StorageUnavailable
from app.domain.keys import StoredKey
from app.store.sqlite import DATABASE_NAME, SqliteStore, open_store
from tests.store.samples import PATIENCE_SECONDS, Samples, settle, stored, until

REPOSITORY = Path(__file__).parents[2]
KEY = StoredKey("a", "alice", b"\0" * 32, 1, None, None)

# The disk is full for this process: no file may grow beyond the size its WAL has.
FULL_DISK = """
import asyncio, os, resource, sys
from pathlib import Path
from app.store.sqlite import open_store
from tests.store.samples import Samples, settle, stored, until

async def main(state_dir):
    samples = Samples()
    async with open_store(state_dir) as store:
        await settle(store.ledger, *[samples.settled() for _ in range(10)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = os.stat(state_dir / "weighbridge.db-wal").st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        for _ in range(20):
            await settle(store.ledger, samples.settled(price="x" * 500))
        full = store.health()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await until(lambda: store.health().ok)
        print(full.ok, full.queue_depth, full.problem, store.health().dropped)

asyncio.run(main(Path(sys.argv[1])))
"""


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Another program has taken the database for itself."""
    with closing(sqlite3.connect(state_dir / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


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
            assert (health.ok, health.problem, health.queue_depth) == (False, "database is locked", 300)
            with pytest.raises(StorageUnavailable):
                await store.clients.add_key(KEY)
        await until(lambda: store.health().ok)
        assert stored(tmp_path) == {record.request_id: "completed" for record in records}
        await store.clients.add_key(KEY)
        await settle(store.ledger, samples.settled())
    stats = store.ledger.stats
    assert (stats.settled, stats.queue_depth, stats.dropped, stats.released_early) == (301, 0, 0, 0)
    assert stats.failed_commits >= 1


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


async def test_closing_while_locked_waits_its_time_and_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples()
    store = await SqliteStore.open(tmp_path)
    with locked(tmp_path):
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


async def test_closing_outlasts_a_short_lock(tmp_path: Path) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(2_500)]
    store = await SqliteStore.open(tmp_path)
    with locked(tmp_path):
        await settle(store.ledger, *records)
        closing_down = asyncio.create_task(store.close(PATIENCE_SECONDS))
        await asyncio.wait({closing_down}, timeout=0.05)
    await closing_down
    assert stored(tmp_path) == {record.request_id: "completed" for record in records}
    assert store.ledger.stats.dropped == 0


async def test_a_connection_that_is_good_for_nothing_is_replaced(tmp_path: Path) -> None:
    samples = Samples()
    async with open_store(tmp_path, on_committed=lambda _: store._writer._database.close()) as store:
        for _ in range(3):
            await settle(store.ledger, samples.settled())
        await until(lambda: store.health().ok and len(stored(tmp_path)) == 3)
    assert store.ledger.stats.failed_commits >= 1


def test_a_full_disk_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    child = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert child.stdout == "False 20 disk I/O error 0\n"
    assert list(stored(tmp_path).values()) == ["completed"] * 30
