"""Several processes on one PostgreSQL: nobody closes a living one's calls, and the sums stay those of the records."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.domain.identity.keys import StoredKey
from app.domain.money.worst_case import WorstCase
from app.domain.records import Outcome, UsageSource
from app.store.opening import opened_store
from app.store.postgres import inspection
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import PostgresConnection
from app.store.postgres.presence import Presence, suffix_of
from app.store.store import Store
from tests.store.postgres_server import PostgresServer
from tests.store.relay import Relay
from tests.store.samples import PATIENCE_SECONDS, Samples, crash_copy, settle, until


@asynccontextmanager
async def replica(url: str, folder: Path, process: int, **options: Any) -> AsyncIterator[Store]:  # noqa: ANN401
    """A store with a clock that a test sets, for its admissions to grow old by."""
    async with opened_store(url, folder / f"{process}", process=process, **options) as store:
        yield store


def outcomes(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT request_id, outcome FROM records").fetchall())


def write_open(store: Store, clock: list[float]) -> None:
    clock[0] += 1
    store.ledger.sweep()


async def test_sums_are_those_of_the_records_however_many_write_them_at_once(tmp_path: Path, postgres_url: str) -> None:
    chance = random.Random(3)
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(replica(postgres_url, tmp_path, number)) for number in (1, 2, 3)]
        batches = [
            [
                samples.settled(client=chance.choice("abcdefgh"), model_served=chance.choice("nopqrstuvw"))
                for _ in range(600)
            ]
            for samples in (Samples(1), Samples(2), Samples(3))
        ]
        for start in range(0, 600, 60):
            settling = zip(stores, batches, strict=True)
            await asyncio.gather(*(settle(store.ledger, *batch[start : start + 60]) for store, batch in settling))
        for store in stores:
            await until(lambda store=store: store.health().ok)  # type: ignore[misc]
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path / "1") == []
    assert len(outcomes(postgres_url)) == 1800


async def test_what_two_replicas_find_in_the_books_is_counted_once(tmp_path: Path, postgres_url: str) -> None:
    broken = Samples(1).open(outcome=Outcome.CLIENT_CLOSED, generation_id="gen-1", model_requested="m")
    told = replace(broken, usage_source=UsageSource.SETTLED, input_tokens=10, output_tokens=3)
    async with replica(postgres_url, tmp_path, 1) as one, replica(postgres_url, tmp_path, 2) as two:
        await settle(one.ledger, broken)
        for store in (one, two):
            store.ledger.amend(told)
        await asyncio.gather(settle(one.ledger, Samples(3).settled()), settle(two.ledger, Samples(4).settled()))
        assert await one.reports.unsettled(0) == []
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path / "1") == []


async def test_only_calls_of_a_process_that_was_missing_for_long_are_closed(tmp_path: Path, postgres_url: str) -> None:
    clock, watch = [0.0], [0.0]
    address = PostgresAddress(postgres_url)
    async with replica(postgres_url, tmp_path, 0xFFFFFFFF, clock=lambda: clock[0]) as store:
        store.ledger.admit(Samples(0xFFFFFFFF).open())
        store.ledger.admit(Samples(7).open())
        write_open(store, clock)
        await until(lambda: len(outcomes(postgres_url)) == 2)
        watcher = Presence(5, 30.0, lambda: watch[0])
        with PostgresConnection.to(address) as connection, PostgresConnection.to(address) as other:
            watcher.begin(connection)
            assert watcher.gone(connection) == []
            watch[0] = 29.0
            assert watcher.gone(connection) == []
            returned = Presence(7, 30.0)
            returned.begin(other)
            watch[0] = 31.0
            assert watcher.gone(connection) == []  # it came back in time
            other.execute("SELECT pg_advisory_unlock_all()")
            assert watcher.gone(connection) == []  # and the count begins anew
            watch[0] = 61.5
            assert watcher.gone(connection) == [suffix_of(7)]
            watcher.begin(connection)  # as on a fresh connection: what happened meanwhile nobody saw
            assert watcher.gone(connection) == []


async def test_the_next_process_of_a_directory_closes_what_the_last_one_left_at_once(
    tmp_path: Path, postgres_url: str
) -> None:
    clock = [0.0]
    mine, others = Samples(1).open(), Samples(2).open()
    async with replica(postgres_url, tmp_path, 2, clock=lambda: clock[0]) as living:
        living.ledger.admit(others)
        write_open(living, clock)
        async with opened_store(postgres_url, tmp_path / "state", process=1) as store:
            store.ledger.admit(mine)
        async with opened_store(postgres_url, tmp_path / "state", process=3) as store:
            await until(lambda: outcomes(postgres_url).get(mine.request_id) == "interrupted")
            await until(lambda: store.ledger.stats.interrupted == 1)
            assert outcomes(postgres_url)[others.request_id] == "in_progress"
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path / "state") == []


async def test_calls_in_the_table_of_a_killed_replica_count_once(tmp_path: Path, postgres_url: str) -> None:
    """Another replica has closed those that had a row, and upstream's books have told of one, when it comes back."""
    clock = [0.0]
    samples = Samples(1)
    worst = WorstCase(100, 200, 300)
    old, told, young = (samples.open(generation_id=f"gen-{n}", worst_case=worst) for n in range(3))
    async with replica(postgres_url, tmp_path, 1, clock=lambda: clock[0], open_calls=10) as killed:
        killed.ledger.admit(old)
        killed.ledger.admit(told)
        write_open(killed, clock)
        await until(lambda: len(outcomes(postgres_url)) == 2)
        killed.ledger.admit(young)
        left = crash_copy(tmp_path / "1", tmp_path / "left")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM records WHERE request_id = %s", (young.request_id,))
    async with replica(postgres_url, tmp_path, 2, lease_seconds=0.0) as other:
        await until(lambda: set(outcomes(postgres_url).values()) == {"interrupted"})
        books: dict[str, Any] = {
            "usage_source": UsageSource.SETTLED,
            "input_tokens": 10,
            "output_tokens": 3,
            "cost_nanousd": 5,
        }
        other.ledger.amend(replace(told, outcome=Outcome.INTERRUPTED, **books))
        await settle(other.ledger, Samples(2).settled())
    for process in (3, 4):
        async with opened_store(postgres_url, left, process=process, open_calls=10) as store:
            await store.ledger.caught_up()
    with psycopg.connect(postgres_url) as connection:
        question = "SELECT outcome, cost_nanousd FROM records WHERE duration_ms IS NULL ORDER BY request_id"
        assert connection.execute(question).fetchall() == [("interrupted", cost) for cost in (300, 5, 300)]
    assert await inspection.inspect(PostgresAddress(postgres_url), left) == []


async def test_a_call_that_was_given_up_and_is_settled_after_all_is_believed(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    clock = [0.0]
    call = Samples(1).open(model_requested="asked")
    with Relay(postgres.port) as relay:
        url = postgres_url.replace(f":{postgres.port}/", f":{relay.port}/")
        async with replica(url, tmp_path, 1, clock=lambda: clock[0]) as cut_off:
            cut_off.ledger.admit(call)
            write_open(cut_off, clock)
            await until(lambda: outcomes(postgres_url) == {call.request_id: "in_progress"})
            relay.cut()
            await until(lambda: not cut_off.health().ok)
            async with replica(postgres_url, tmp_path, 2, lease_seconds=0.0) as other:
                await until(lambda: outcomes(postgres_url) == {call.request_id: "interrupted"})
                await until(lambda: other.ledger.stats.interrupted == 1)  # its reconciler asks what the call came to
                ended = replace(call, outcome=Outcome.COMPLETED, input_tokens=7, output_tokens=1, duration_ms=60_000.0)
                await settle(cut_off.ledger, replace(ended, model_served="served"))
                relay.mend()
                await until(lambda: outcomes(postgres_url) == {call.request_id: "completed"})
                await until(lambda: cut_off.health().ok)
            (totals,) = [dict(row) for row in await cut_off.reports.totals(_by_model())]
            assert (totals["model"], totals["requests"], totals["completed"], totals["input_tokens"]) == (
                "served", 1, 1, 7,
            )  # fmt: skip
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path / "2") == []


async def test_changes_of_others_are_heard_also_after_the_connection_broke(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    heard: asyncio.Queue[set[str]] = asyncio.Queue()
    with Relay(postgres.port) as relay:
        url = postgres_url.replace(f":{postgres.port}/", f":{relay.port}/")
        async with replica(url, tmp_path, 1) as one, replica(postgres_url, tmp_path, 2) as two:

            async def changed() -> None:
                heard.put_nowait({key.key_id for key in await one.clients.load_keys()})

            async def hears(*keys: str) -> float:
                loop = asyncio.get_running_loop()
                begin = loop.time()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await heard.get() != set(keys):
                        pass
                return loop.time() - begin

            one.on_changes(changed)
            await hears()
            for number, name in enumerate("abc"):
                await two.clients.add_key(StoredKey(name, "alice", b"\0" * 32, number, None, None))
                await hears(*"abc"[: number + 1])
            relay.cut()
            await two.clients.change_key("b", expires_at=None, revoked_at=5)
            relay.mend()
            await hears("a", "c")
            with psycopg.connect(postgres_url) as connection:  # without a word to anybody
                connection.execute("UPDATE keys SET revoked_at = 5 WHERE key_id = 'a'")
            await hears("c")


@pytest.mark.parametrize("attempt", range(2))
async def test_a_day_is_added_up_once_and_late_records_reach_it(
    tmp_path: Path, postgres_url: str, attempt: int
) -> None:
    from tests.store.samples import START

    hour = 3_600_000_000
    options = {"now": lambda: START + 60 * hour}
    late = [Samples(4).settled(START + number) for number in range(50)]
    async with (
        replica(postgres_url, tmp_path, 1, **options) as one,
        replica(postgres_url, tmp_path, 2, **options) as two,
    ):
        samples = Samples(3)
        await settle(one.ledger, *[samples.settled(START + number * hour // 4) for number in range(100)])
        for start in range(0, 50, 5):
            await settle(two.ledger, *late[start : start + 5])
            await asyncio.sleep(0)
        await until(lambda: _folded(postgres_url) >= START + 24 * hour)
        await settle(two.ledger, Samples(5).settled(START))
    assert await inspection.inspect(PostgresAddress(postgres_url), tmp_path / "1") == []


def _folded(url: str) -> int:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("SELECT folded_until FROM ledger_progress").fetchall()[0]
        return int(found)


def _by_model() -> Any:  # noqa: ANN401
    from app.gateway.usage_query import UsageQuery

    return UsageQuery(by="model")
