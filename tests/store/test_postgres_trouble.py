"""PostgreSQL away, silent or slow: records go to the spool and come back, and nothing needs a restart."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.domain.errors import StorageUnavailable
from app.domain.identity.keys import StoredKey
from app.domain.records import Record
from app.gateway.usage_query import UsageQuery
from app.store.faults import StoreFault
from app.store.opening import opened_store
from app.store.postgres import schema
from app.store.postgres.address import PostgresAddress
from app.store.schema.revisions import HEAD
from app.store.store import Store
from tests.store.postgres_server import PostgresServer
from tests.store.relay import Relay
from tests.store.samples import Samples, settle, until

KEY = StoredKey("a", "alice", b"\0" * 32, 1, None, None)


@pytest.fixture
def relay(postgres: PostgresServer) -> Iterator[Relay]:
    with Relay(postgres.port) as relay:
        yield relay


def through(relay: Relay, url: str, postgres: PostgresServer) -> str:
    return url.replace(f":{postgres.port}/", f":{relay.port}/")


def stored(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT request_id, outcome FROM records").fetchall())


def completed(*records: Record) -> dict[str, str]:
    return {record.request_id: "completed" for record in records}


async def requests_in(store: Store) -> int:
    (totals,) = await store.reports.totals(UsageQuery())
    found: int = totals["requests"]
    return found


async def test_a_server_that_dies_and_comes_back_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(300)]
    with PostgresServer() as server:
        url = server.url(server.new_database())
        # The clock stands still, so that it is the writer who lets callers go and not the ledger's last resort.
        async with opened_store(url, tmp_path, clock=lambda: 0.0) as store:
            await settle(store.ledger, *records[:100])
            server.stop()
            await until(lambda: not store.health().ok)  # noticed without a call
            await settle(store.ledger, *records[100:])
            health = store.health()
            assert health.problem is not None
            assert health.problem.startswith("PostgreSQL: ")
            assert (health.keeps, health.queue_depth, health.spooled) == (True, 0, True)
            with pytest.raises(StorageUnavailable):
                await store.clients.add_key(KEY)
            with pytest.raises(StorageUnavailable):
                await store.reports.totals(UsageQuery())
            server.start()
            await until(lambda: store.health().ok)
            assert stored(url) == completed(*records)
            assert await requests_in(store) == 300
            await store.clients.add_key(KEY)
            stats = store.ledger.stats
            assert (stats.settled + stats.replayed, stats.spooled, stats.dropped) == (300, 200, 0)


async def test_a_server_that_falls_silent_is_given_up_before_callers_are(
    tmp_path: Path, relay: Relay, postgres: PostgresServer, postgres_url: str
) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(40)]
    url = through(relay, postgres_url, postgres)
    # By a slow clock: the ledger's last resort comes after 5 s, for a disk may take a second by itself.
    async with opened_store(url, tmp_path, clock=lambda: time.monotonic() / 5) as store:
        await settle(store.ledger, *records[:10])
        relay.freeze()
        for start in (10, 20, 30):
            await settle(store.ledger, *records[start : start + 10])
        assert store.ledger.stats.released_early == 0
        assert store.ledger.stats.spooled == 30
        relay.mend()
        await until(lambda: store.health().ok)
        assert stored(postgres_url) == completed(*records)
        assert await requests_in(store) == 40  # also if the commit that nobody heard of was one


async def test_a_silent_server_does_not_hold_up_the_end(
    tmp_path: Path, relay: Relay, postgres: PostgresServer, postgres_url: str
) -> None:
    record = Samples().settled()
    async with opened_store(through(relay, postgres_url, postgres), tmp_path) as store:
        relay.freeze()
        await settle(store.ledger, record)
        before = time.monotonic()
    assert time.monotonic() - before < 5
    relay.mend()
    async with opened_store(postgres_url, tmp_path) as store:
        await until(lambda: store.health().ok)
    assert stored(postgres_url) == completed(record)


async def test_a_lock_of_others_sends_records_to_the_spool(tmp_path: Path, postgres_url: str) -> None:
    record = Samples().settled()
    async with opened_store(postgres_url, tmp_path, clock=lambda: 0.0) as store:
        with psycopg.connect(postgres_url) as other:
            other.execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE")
            await settle(store.ledger, record)
            assert store.ledger.stats.spooled == 1
            assert "lock timeout" in str(store.health().problem)
        await until(lambda: store.health().ok)
    assert stored(postgres_url) == completed(record)


async def test_rows_that_postgres_does_not_take_are_mended_and_keep_no_other_back(
    tmp_path: Path, postgres_url: str
) -> None:
    samples = Samples()
    odd = samples.settled(model_requested="a\0b", model_served="m" * 10_000, total_tokens=2**70, key_id="k\udfff")
    bad = samples.settled(path={"not": "text"}), samples.settled(client=None), samples.settled(total_tokens="many")
    good = samples.settled()
    async with opened_store(postgres_url, tmp_path) as store:
        await settle(store.ledger, odd, *bad, good)
        assert store.health().ok
        kept = [record async for record in store.reports.records(UsageQuery())]
        assert store.ledger.stats.unwritable == 3
        assert await requests_in(store) == 2
    assert (kept[0].model_requested, len(str(kept[0].model_served)), kept[0].total_tokens) == ("a?b", 500, None)
    assert kept[1] == good


async def test_a_commit_is_on_disk_however_the_server_is_set(tmp_path: Path, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(psycopg.sql.Identifier(name))
        )
    async with opened_store(postgres_url, tmp_path) as store:
        writes = store._writer._write_path._database.connection
        assert writes.execute("SHOW synchronous_commit").rows == [("on",)]


def test_processes_that_start_together_upgrade_one_after_the_other(postgres: PostgresServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    address = PostgresAddress(postgres.url(postgres.new_database()))
    with ThreadPoolExecutor(4) as threads:
        changed = list(threads.map(lambda _: schema.upgrade(address), range(4)))
    assert changed.count(True) == 1
    assert schema.current_revision(address) == HEAD


async def test_without_the_driver_there_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreFault, match=r"pip install 'psycopg\[binary\]'"):
        async with opened_store("postgresql://db.example.com/weighbridge", tmp_path):
            pass


async def test_what_cannot_be_opened_is_told_in_a_sentence_without_the_password(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.postgres.store.START_SECONDS", 0.1)
    secret = "geheim-4711"
    urls = {
        f"postgresql://weighbridge:{secret}@127.0.0.1:1/x": "cannot be reached",
        f"postgresql://weighbridge:{secret}@127.0.0.1:{postgres.port}/postgres": "password authentication failed",
        f"postgresql://weighbridge:a@{secret}@127.0.0.1/x": "more than one @",
        f"postgresql://weighbridge:%zz{secret}@127.0.0.1/x": "cannot be read",
    }
    for url, words in urls.items():
        with pytest.raises(StoreFault, match=words) as raised:
            async with opened_store(url, tmp_path):
                pass
        assert secret not in f"{raised.value!r} {raised.value}"
