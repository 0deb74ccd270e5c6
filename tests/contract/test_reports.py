"""The contract of the ports that read the ledger, against sums made the plain way."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.identity.kept_ids import kept_id
from app.domain.money.worst_case import WorstCase
from app.domain.records import Book, CostSource, Outcome, Record, UsageSource, book_of
from app.gateway.usage_query import Sort, UsageQuery
from app.store.query.reports import PAGE_ROWS
from app.store.query.totals import SUMS
from app.store.store import Store
from tests.contract.conftest import Form
from tests.store.samples import START, Samples, settle, some_records, until

if TYPE_CHECKING:
    from app.gateway.ports import Reports, UnsettledReports

HOUR = 3_600_000_000
DAY = 24 * HOUR
UNWEIGHED = (Outcome.REJECTED, Outcome.IN_PROGRESS)

GROUPS: dict[str, Callable[[Record, int], Any]] = {
    "client": lambda record, _: record.client,
    "model": lambda record, _: record.model_served or record.model_requested,
    "hour": lambda record, offset: (record.started_at + offset) // HOUR * HOUR - offset,
    "day": lambda record, offset: (record.started_at + offset) // DAY * DAY - offset,
}


def chosen(records: Sequence[Record], query: UsageQuery) -> list[Record]:
    return [
        record
        for record in records
        if (query.since is None or record.started_at >= query.since)
        and (query.until is None or record.started_at < query.until)
        and query.client in {None, record.client}
        and query.model in {None, record.model_served or record.model_requested}
        and query.upstream in {None, record.upstream}
        and query.book in {None, book_of(record.upstream)}
        and query.outcome in {None, record.outcome}
    ]


def added_up(records: Sequence[Record]) -> dict[str, Any]:
    weighed = [record for record in records if record.outcome not in UNWEIGHED]
    outcomes = [str(record.outcome) for record in records]
    totals: dict[str, Any] = {"requests": len(records)}
    for name in SUMS:
        known = [getattr(record, name) for record in records if getattr(record, name) is not None]
        totals[name] = sum(known) if known or not records else None
    for name in ("completed", "rejected", "in_progress"):
        totals[name] = outcomes.count(name)
    totals["other"] = len(records) - sum(totals[name] for name in ("completed", "rejected", "in_progress"))
    totals["unknown_usage"] = sum(record.input_tokens is None or record.output_tokens is None for record in weighed)
    totals["unknown_cost"] = sum(record.cost_nanousd is None for record in weighed)
    return totals


def expected(records: Sequence[Record], query: UsageQuery) -> list[dict[str, Any]]:
    picked = chosen(records, query)
    if query.by is None:
        return [added_up(picked)]
    by, group_of = query.by, GROUPS[query.by]
    groups: dict[Any, list[Record]] = {}
    for record in picked:
        groups.setdefault(group_of(record, query.bucket_offset), []).append(record)
    in_order = sorted(groups, key=lambda group: (group is not None, group))
    return [{by: group, **added_up(groups[group])} for group in in_order]


def queries() -> list[UsageQuery]:
    chance = random.Random(4)
    ends = [None, START, START + 7 * HOUR, START + 7 * HOUR + 1, START + 97_000_000 * 150, START + 97_000_001]
    found = [UsageQuery(by=by) for by in (None, *GROUPS)]
    mixed = (
        UsageQuery(
            since=chance.choice(ends),
            until=chance.choice(ends),
            client=chance.choice([None, None, "alice", "nobody"]),
            model=chance.choice([None, None, "openai/a", "a-2026"]),
            by=chance.choice([None, *GROUPS]),
            bucket_offset=chance.choice([0, HOUR, -5 * HOUR, 11 * HOUR // 2]),
            upstream=chance.choice([None, None, None, "mock"]),
            book=chance.choice([None, None, *Book]),
            outcome=chance.choice([None, None, None, Outcome.TIMEOUT, Outcome.IN_PROGRESS, Outcome.COMPLETED]),
        )
        for _ in range(100)
    )
    return [*found, *mixed]


async def test_totals_are_the_sums_of_the_records(store: Store) -> None:
    reports: Reports = store.reports
    records = some_records(300)
    await settle(store.ledger, *records)
    for query in queries():
        assert [dict(row) for row in await reports.totals(query)] == expected(records, query), query
        assert [record async for record in reports.records(query)] == chosen(records, query), query


async def test_a_span_is_exact_to_the_microsecond(store: Store) -> None:
    samples = Samples()
    records = [samples.settled(START + offset) for offset in (0, 1, 998, 999, 1000, 1001)]
    await settle(store.ledger, *records)
    for since in (START, START + 1, START + 999, START + 1000):
        for end in (START + 1, START + 999, START + 1000, START + 1001, START + 1002):
            query = UsageQuery(since=since, until=end)
            assert [record async for record in store.reports.records(query)] == chosen(records, query)


async def test_an_empty_ledger_has_spent_nothing(store: Store) -> None:
    totals = await store.reports.totals(UsageQuery())
    assert [dict(row) for row in totals] == [added_up([])]
    assert totals[0]["cost_nanousd"] == 0
    assert await store.reports.totals(UsageQuery(by="model")) == []


async def test_calls_under_way_are_counted_apart(form: Form) -> None:
    clock = [0.0]
    async with form.open(clock=lambda: clock[0]) as store:
        store.ledger.admit(Samples().open())
        clock[0] += 1
        store.ledger.sweep()
        await settle(store.ledger, Samples(2).settled())
        totals = (await store.reports.totals(UsageQuery()))[0]
    assert (totals["requests"], totals["in_progress"], totals["completed"], totals["other"]) == (2, 1, 1, 0)
    assert (totals["unknown_usage"], totals["unknown_cost"]) == (0, 0)


async def test_records_are_read_page_by_page_and_none_twice(store: Store) -> None:
    records = some_records(2 * PAGE_ROWS)
    await settle(store.ledger, *records)
    assert [record async for record in store.reports.records(UsageQuery())] == records


async def test_the_dearest_and_the_newest(store: Store) -> None:
    records = some_records(300)
    await settle(store.ledger, *records)
    dearest = sorted(records, key=lambda r: -1 if r.cost_nanousd is None else r.cost_nanousd, reverse=True)
    for limit in (1, 7, 300, 1000):
        newest = UsageQuery(limit=limit)
        assert [record async for record in store.reports.records(newest)] == records[-limit:]
        sorted_ = UsageQuery(limit=limit, sort=Sort.COST)
        assert [record async for record in store.reports.records(sorted_)] == dearest[:limit]
    by_hour = UsageQuery(by="hour", limit=2)
    assert [dict(row) for row in await store.reports.totals(by_hour)] == expected(records, by_hour)[-2:]
    by_model = UsageQuery(by="model", limit=1, sort=Sort.COST)
    most = max(expected(records, by_model), key=lambda row: row["cost_nanousd"])
    assert [dict(row) for row in await store.reports.totals(by_model)] == [most]


async def test_a_call_is_found_by_any_id(store: Store) -> None:
    samples = Samples()
    times = [START, START + 1, START + HOUR, START + 30 * HOUR, START + 90 * DAY, START + 90 * DAY + 1]
    records = [
        samples.settled(
            started_at,
            response_id=f"resp_{number}",
            generation_id=f"gen-{number}",
            upstream_request_id=f"theirs-{number}",
            upstream=("openrouter", "mock")[number % 2],
        )
        for number, started_at in enumerate(times)
    ]
    await settle(store.ledger, *records)
    find, anything = store.reports.find, UsageQuery()
    for record in records:
        for id_ in (record.request_id, record.response_id, record.generation_id, record.upstream_request_id):
            assert await find(id_ or "", anything) == [record]
    for id_ in ("", "nothing", "resp_", "%", "resp_%", "\0", "x" * 5000):
        assert await find(id_, anything) == []
    assert await find("resp_0", UsageQuery(since=START + 1)) == []
    assert await find("resp_0", UsageQuery(until=START + 1, client="alice", book=Book.REAL)) == [records[0]]
    assert await find(records[1].request_id, UsageQuery(book=Book.REAL)) == []


async def test_the_newest_calls_of_an_id_are_found(store: Store) -> None:
    samples = Samples()
    asked = [samples.settled(START + offset, response_id="resp_1") for offset in (0, 99 * HOUR, 99 * HOUR + 5)]
    await settle(store.ledger, *asked)
    assert await store.reports.find("resp_1", UsageQuery()) == asked[1:]


async def test_an_id_too_long_to_be_kept_is_found(store: Store) -> None:
    long = "resp_" + "x" * 5000
    record = Samples().settled(START, response_id=kept_id(long), upstream_request_id=kept_id("r" * 2048))
    await settle(store.ledger, record)
    for id_ in (long, record.response_id, "r" * 2048):
        assert await store.reports.find(id_ or "", UsageQuery()) == [record]


async def test_reading_can_stop_anywhere(store: Store) -> None:
    records = some_records(PAGE_ROWS + 5)
    await settle(store.ledger, *records)
    async for record in store.reports.records(UsageQuery()):
        assert record == records[0]
        break
    await settle(store.ledger, Samples(2).settled())


async def test_another_grouping_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="cannot be grouped by 'key_id; DROP TABLE records'"):
        await store.reports.totals(UsageQuery(by="key_id; DROP TABLE records"))


async def test_what_the_books_may_tell_is_found_oldest_first(store: Store) -> None:
    samples = Samples()
    known_as: list[dict[str, Any]] = [
        *({"generation_id": generation_id, "response_id": "resp_1"} for generation_id in (None, "gen-1")),
        *({"background": True, "response_id": response_id} for response_id in (None, "resp_1")),
    ]
    records = [
        samples.settled(START + number, outcome=outcome, usage_source=source, **{"generation_id": None, **ids})
        for number, (outcome, source, ids) in enumerate(
            (outcome, source, ids)
            for outcome in Outcome
            if outcome is not Outcome.IN_PROGRESS
            for source in UsageSource
            for ids in known_as
        )
    ]
    await settle(store.ledger, *records)
    expected = [
        record
        for record in records
        if record.outcome not in (Outcome.REJECTED, Outcome.UPSTREAM_ERROR)
        and record.usage_source in (UsageSource.NONE, UsageSource.ESTIMATED)
        and (record.generation_id or (record.background and record.response_id))
    ]
    reports: UnsettledReports = store.reports
    assert await reports.unsettled(START) == expected
    assert await reports.unsettled(START, most=2) == expected[:2]
    assert await reports.unsettled(expected[2].started_at) == expected[2:]


async def test_totals_are_the_same_once_days_are_added_up(form: Form) -> None:
    records = some_records(2_000)
    now = START + 50 * HOUR
    async with form.open(now=lambda: now) as store:
        await settle(store.ledger, *records)
        await until(lambda: form.folded_until() == START // DAY * DAY + 2 * DAY)
        for query in queries():
            assert [dict(row) for row in await store.reports.totals(query)] == expected(records, query), query


async def test_calls_that_nobody_has_told_the_cost_of_are_found_until_somebody_tells(form: Form) -> None:
    samples = Samples()
    untold = {"usage_source": UsageSource.ESTIMATED, "held": True}
    records = [samples.settled(START + number, **untold) for number in range(3)]
    records.append(samples.settled(START + 3, usage_source=UsageSource.ESTIMATED))
    async with form.open() as store:
        await settle(store.ledger, *records)
        assert await store.reports.held() == records[:3]
        assert await store.reports.held(records[0].client) == [r for r in records[:3] if r.client == records[0].client]
        assert await store.reports.record(records[1].request_id) == records[1]
        assert await store.reports.record("req_none") is None
        told = replace(records[1], usage_source=UsageSource.SETTLED, cost_nanousd=5, cost_source=CostSource.REPORTED)
        store.ledger.amend(told)
    async with form.open() as store:
        assert await store.reports.held() == [records[0], records[2]]
        amended = await store.reports.record(records[1].request_id)
        assert amended is not None
        assert (amended.held, amended.usage_source, amended.cost_nanousd) == (False, UsageSource.SETTLED, 5)


async def test_a_call_that_was_open_when_its_process_died_is_held(form: Form) -> None:
    record = replace(Samples().open(), worst_case=WorstCase(30, 70, 9_000))
    async with form.open() as store:
        store.ledger.admit(record)
        await store.ledger.close(5)
    async with form.open() as store:
        (held,) = await store.reports.held()
    assert (held.request_id, held.outcome) == (record.request_id, Outcome.INTERRUPTED)
    assert (held.total_tokens, held.cost_nanousd) == (100, 9_000)
