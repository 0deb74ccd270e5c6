"""The contract of the Ledger port: each admitted call has one record, durable before its caller goes on."""

import asyncio
import contextlib
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.usage_query import UsageQuery
from app.store.store import Store
from tests.contract.conftest import Form
from tests.store.samples import PATIENCE_SECONDS, Samples, settle, until

if TYPE_CHECKING:
    from app.gateway.ports import Ledger

REPOSITORY = Path(__file__).parents[2]


async def read_back(store: Store) -> list[Record]:
    return [record async for record in store.reports.records(UsageQuery())]


async def test_a_record_is_kept_as_it_was(store: Store) -> None:
    full = Samples(1).settled(
        finished_at=1_790_000_000_123_456,
        usage_source=UsageSource.SETTLED,
        cost_source=CostSource.ESTIMATED,
        cached_input_tokens=0,
        cache_write_tokens=7,
        reasoning_tokens=5,
        total_tokens=2**53 - 1,
        price='{"input": 250000}',
        response_id="resp_ü",
        generation_id="gen-1",
        retry_count=1,
        bytes_in=10,
        bytes_out=20,
        time_to_first_byte_ms=12.25,
        error_type="upstream_timeout",
        method="GET",
    )
    bare = Samples(2).open(outcome=Outcome.REJECTED)
    ledger: Ledger = store.ledger
    await settle(ledger, full)
    await settle(ledger, bare)
    assert await read_back(store) == sorted([full, bare], key=lambda record: record.request_id)


async def test_a_record_is_there_for_others_when_its_caller_goes_on(store: Store, form: Form) -> None:
    samples = Samples()
    for _ in range(20):
        record = samples.settled()
        seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def durable(record: Record = record, seen: "asyncio.Future[bool]" = seen) -> None:
            seen.set_result(record.request_id in form.stored())

        store.ledger.settle(record, durable)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await seen


async def test_ten_thousand_settlements_are_all_durable_and_counted_once(store: Store, form: Form) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(10_000)]
    for record in records:
        store.ledger.admit(record)
    await settle(store.ledger, *records)
    await until(lambda: store.health().ok)  # a database that was slow for once has them from the spool
    assert form.stored() == {record.request_id: "completed" for record in records}
    totals = await store.reports.totals(UsageQuery())
    assert (totals[0]["requests"], totals[0]["input_tokens"]) == (10_000, 10_000 * 1000)
    stats = store.ledger.stats
    assert (stats.settled + stats.spooled, stats.queue_depth, stats.dropped) == (10_000, 0, 0)


async def test_the_caller_is_not_let_go_from_within_settle(store: Store) -> None:
    called: list[str] = []
    record = Samples().settled()
    store.ledger.settle(record, lambda: called.append("durable"))
    assert called == []
    await settle(store.ledger, Samples(2).settled())
    assert called == ["durable"]


async def test_an_admission_that_comes_after_the_settlement_changes_nothing(form: Form) -> None:
    record = Samples().settled()
    async with form.open() as store:
        await settle(store.ledger, record)
        store.ledger.admit(record)  # closing writes the row of what is open
    assert form.stored() == {record.request_id: "completed"}


async def test_a_call_admitted_twice_has_one_row(form: Form) -> None:
    record = Samples().open()
    async with form.open() as store:
        store.ledger.admit(record)
        store.ledger.admit(record)
    async with form.open() as store:
        store.ledger.admit(record)
    assert form.stored() == {record.request_id: "interrupted"}


async def test_the_first_settlement_of_an_id_stands_and_both_callers_go_on(store: Store) -> None:
    samples = Samples()
    first = samples.settled(input_tokens=5)
    second = samples.settled(input_tokens=99, outcome=Outcome.FAILED)
    second.request_id = first.request_id
    await settle(store.ledger, first, second)
    await settle(store.ledger, second)
    kept = await read_back(store)
    assert kept == [first]


async def test_what_is_noted_of_an_open_call_is_in_its_row_also_after_its_process_died(form: Form) -> None:
    """Without the generation id nobody could ask upstream's books what the call weighed."""
    clock = [0.0]
    young, old, settled = Samples(1).open(), Samples(2).open(), Samples(3).settled()
    async with form.open(clock=lambda: clock[0]) as store:
        store.ledger.admit(old)
        clock[0] += 1
        store.ledger.sweep()
        store.ledger.admit(young)
        for record in (young, old):
            record.generation_id, record.http_status, record.model_served = "gen-1", 200, "m"
            store.ledger.note(record)
        store.ledger.sweep()
        await settle(store.ledger, settled)
        assert young.request_id not in form.stored()
        store.ledger.note(settled)
        store.ledger.sweep()
        await settle(store.ledger, settled)
        assert form.stored()[settled.request_id] == "completed"
    async with form.open() as store:
        await until(lambda: store.health().ok)
        found = {record.request_id: record for record in await read_back(store)}
        for record in (young, old):
            kept = found[record.request_id]
            assert (kept.outcome, kept.generation_id, kept.http_status, kept.model_served) == (
                Outcome.INTERRUPTED, "gen-1", 200, "m",
            )  # fmt: skip
        assert await store.reports.unsettled(0) == [found[record.request_id] for record in (young, old)]


async def test_the_books_settle_a_call_once(form: Form) -> None:
    broken = Samples().open(outcome=Outcome.CLIENT_CLOSED, generation_id="gen-1", model_requested="m")
    told = replace(
        broken,
        usage_source=UsageSource.SETTLED,
        input_tokens=10,
        output_tokens=3,
        cost_nanousd=500,
        cost_source=CostSource.REPORTED,
    )
    async with form.open() as store:
        ledger: Ledger = store.ledger
        await settle(ledger, broken)
        assert await store.reports.unsettled(0) == [broken]
        for amendment in (replace(told, usage_source=UsageSource.ESTIMATED), told, replace(told, input_tokens=99)):
            ledger.amend(amendment)
        await settle(ledger, Samples(2).settled())
        assert (await read_back(store))[0] == told
        assert await store.reports.unsettled(0) == []
        (totals,) = await store.reports.totals(UsageQuery(model="m"))
        assert (totals["input_tokens"], totals["cost_nanousd"], totals["unknown_usage"]) == (10, 500, 0)


async def test_an_amendment_of_what_is_not_settled_changes_nothing(store: Store) -> None:
    known, nowhere = Samples(1).settled(), Samples(2).settled()
    await settle(store.ledger, known)
    for record in (known, nowhere):
        store.ledger.amend(replace(record, usage_source=UsageSource.SETTLED, input_tokens=1))
    await settle(store.ledger, Samples(3).settled())
    assert (await read_back(store))[0] == known
    assert len(await read_back(store)) == 2


async def test_relaxed_lets_callers_go_at_once_and_the_records_follow(form: Form) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(100)]
    async with form.open(relaxed=True) as store:
        order: list[str] = []
        for record in records:
            store.ledger.settle(record, lambda: order.append("gone"))
            order.append("settled")
        assert order == ["settled"] * 100
        await asyncio.sleep(0)
        assert order[100:] == ["gone"] * 100
        await until(lambda: len(form.stored()) == 100)
        assert store.ledger.keeps
    assert form.stored() == {record.request_id: "completed" for record in records}


async def test_a_ledger_keeps_until_it_is_closed(form: Form) -> None:
    async with form.open() as store:
        assert store.ledger.keeps
    assert not store.ledger.keeps


async def test_calls_that_were_open_when_a_process_ended_are_interrupted(form: Form) -> None:
    left_open = Samples(1).open()
    done = Samples(2).settled()
    async with form.open() as store:
        store.ledger.admit(left_open)
        await settle(store.ledger, done)
    assert form.stored() == {left_open.request_id: "in_progress", done.request_id: "completed"}
    async with form.open() as store:
        records = {record.request_id: record for record in await read_back(store)}
    closed = records[left_open.request_id]
    assert (closed.outcome, closed.finished_at, closed.duration_ms) == (
        Outcome.INTERRUPTED,
        left_open.started_at,
        None,
    )
    assert records[done.request_id] == done


async def test_closing_writes_what_is_left(form: Form) -> None:
    samples = Samples()
    records = [samples.settled() for _ in range(3_000)]
    let_go: list[str] = []
    async with form.open() as store:
        for record in records:
            store.ledger.settle(record, lambda record=record: let_go.append(record.request_id))  # type: ignore[misc]
    assert set(form.stored()) == {record.request_id for record in records}
    assert sorted(let_go) == sorted(form.stored())


async def test_after_closing_a_caller_is_let_go_and_the_loss_counted(form: Form) -> None:
    async with form.open() as store:
        pass
    await settle(store.ledger, Samples().settled())
    assert store.ledger.stats.dropped == 1
    assert form.stored() == {}


async def test_a_caller_that_fails_does_not_keep_others_waiting(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    samples = Samples()

    def fails() -> None:
        raise RuntimeError("of the caller's own")

    store.ledger.settle(samples.settled(), fails)
    await settle(store.ledger, samples.settled())
    assert "A callback of the ledger failed" in caplog.text


async def test_what_no_database_takes_is_mended_not_lost(store: Store) -> None:
    samples = Samples()
    odd = samples.settled(model_requested="a\ud800b", total_tokens=2**70, key_id="k\udfff")
    good = samples.settled(total_tokens=3)
    await settle(store.ledger, odd, good)
    mended, same = await read_back(store)
    assert (mended.model_requested, mended.total_tokens, mended.key_id) == ("a?b", None, "k?")
    assert same == good
    assert store.health().ok


async def test_kill_9_loses_no_record_whose_caller_went_on_and_doubles_none(form: Form) -> None:
    seen: set[str] = set()
    chance = random.Random(9)
    for round_number in range(5):
        seen |= await settle_until_killed(form, round_number, lines=chance.randint(1, 3_000))
        async with form.open():
            kept = form.stored()  # which also asserts that ids are unique
            assert seen <= kept.keys()
            assert set(kept.values()) == {"completed"}


async def settle_until_killed(form: Form, seed: int, lines: int) -> set[str]:
    """The ids that a child printed before it was killed, which happens once it has printed so many, or soon."""
    arguments = [
        "-m",
        "tests.contract.settling_child",
        str(form.directory),
        str(seed),
        *([form.url] if form.url else []),
    ]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    printed = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            printed.append(await child.stdout.readline())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS / 8):  # a slow disk does not get so far
                while len(printed) < lines:
                    printed.append(await child.stdout.readline())
    finally:
        child.kill()
    rest = await child.stdout.read()
    assert await child.wait() == -9
    return {*b"".join([*printed, rest]).decode().split()}


async def test_the_books_name_the_model_that_served_where_nobody_knew(form: Form) -> None:
    """The sums go with the record: from the model that was asked for to the one that served."""
    fields: dict[str, Any] = {"outcome": Outcome.CLIENT_CLOSED, "generation_id": "gen-1", "model_requested": "asked"}
    guess: dict[str, Any] = {
        "usage_source": UsageSource.ESTIMATED,
        "input_tokens": 90,
        "output_tokens": 9,
        "cost_nanousd": 900,
    }
    broken, unknown, alone = (
        Samples(1).open(**fields, **guess),
        Samples(2).open(**fields),
        Samples(3).open(**{**fields, "model_requested": "alone"}),
    )
    books: dict[str, Any] = {
        "usage_source": UsageSource.SETTLED,
        "input_tokens": 10,
        "output_tokens": 3,
        "cost_nanousd": 500,
    }
    async with form.open() as store:
        await settle(store.ledger, broken, unknown, alone)
        for record in (broken, alone):
            store.ledger.amend(replace(record, **books, model_served="served"))
        await settle(store.ledger, Samples(4).settled(model_served="other"))
        served = [record.model_served for record in await read_back(store)]
        assert sorted(map(str, served)) == ["None", "other", "served", "served"]
        by_model = {row["model"]: row for row in await store.reports.totals(UsageQuery(by="model"))}
    assert sorted(by_model) == ["asked", "other", "served"]
    asked, told = by_model["asked"], by_model["served"]
    assert (asked["requests"], asked["input_tokens"], asked["cost_nanousd"]) == (1, None, None)
    assert (asked["unknown_usage"], asked["unknown_cost"]) == (1, 1)
    assert (told["requests"], told["input_tokens"], told["output_tokens"], told["cost_nanousd"]) == (2, 20, 6, 1000)
    assert (told["unknown_usage"], told["unknown_cost"]) == (0, 0)
