"""The usage reconciler: who is asked about, when, how often, and what comes of it; by a clock that is moved by hand."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.domain.answer.usage import Usage
from app.domain.backoff import backoff_seconds
from app.domain.money.price_table import price_from_config
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway import usage_reconciler as rules
from app.gateway.ports import StillRunning, UpstreamUsage, UsageNotKept
from app.gateway.usage_reconciler import UsageReconciler, wants
from tests.gateway.house import UPSTREAM_KEY, House

ENTRY = UpstreamUsage(Usage(10, 4, None, 20, 5, 30, reported_cost_nanousd=1234), "m-served")


class HandLookup:
    """Books in which the test writes; they know who asked and how many did at once."""

    def __init__(self) -> None:
        self.entries: dict[str, UpstreamUsage | Exception] = {}
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0

    async def look_up(self, record: Record) -> UpstreamUsage | None:
        known_as = (record.response_id if record.background else record.generation_id) or ""
        self.asked[known_as] += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        entry = self.entries.get(known_as)
        if isinstance(entry, Exception):
            raise entry
        return entry


class HouseUnsettled:
    """Finds what is unsettled in a house's ledger, in pages of at most 7."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.broken = False

    async def unsettled(self, since: int, most: int = 200) -> Sequence[Record]:
        if self.broken:
            raise OSError("closed")
        records = sorted(self._house.ledger.settled.values(), key=lambda record: record.request_id)
        page = [replace(record) for record in records if wants(record) and record.started_at >= since]
        return page[: min(most, rules._PAGE)]


class Desk:
    """A reconciler with its neighbours. Chance is even: waits are 1, 2, 4 ... seconds."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.lookup = HandLookup()
        self.reports = HouseUnsettled(house)
        self.reconciler = UsageReconciler(self.lookup, self.reports, house.services, lambda: 0.5)
        self._made = 0

    def broken_off(self, **fields: Any) -> Record:  # noqa: ANN401 - a Record's own
        """A settled call without a usage; its generation is `gen-N`."""
        self._made += 1
        started = fields.pop("started_at", self.house.time.us + self._made)
        record = Record(f"req_{self._made:05}", started, "alice", "key", "hand", "/responses", bytes_in=90)
        record.outcome = Outcome.CLIENT_CLOSED
        record.generation_id = f"gen-{self._made}"
        for name, value in fields.items():
            setattr(record, name, value)
        self.house.ledger.settle(record, lambda: None)
        return record

    def settled(self, record: Record) -> Record:
        return self.house.ledger.settled[record.request_id]

    async def pass_time(self, seconds: float) -> None:
        """Ask whatever is due on the way, at the very moments at which the reconciler wants to be called."""
        until = self.house.time.us + round(seconds * 1_000_000)
        while True:
            wait = await self.reconciler.ask_due()
            left = (until - self.house.time.us) / 1_000_000
            if wait is None or wait > left:
                self.house.time.us = until
                return
            self.house.time.advance(max(wait, 0.000_001))


@pytest.fixture
async def desk(house: House) -> Desk:
    return Desk(house)


async def test_an_entry_replaces_an_estimate(desk: Desk) -> None:
    record = desk.broken_off(usage_source=UsageSource.ESTIMATED, input_tokens=99, output_tokens=99, total_tokens=198)
    desk.lookup.entries["gen-1"] = ENTRY
    desk.reconciler.take([record])
    assert desk.reconciler.unsettled == 1
    await desk.pass_time(0.9)
    assert desk.lookup.asked["gen-1"] == 0
    await desk.pass_time(0.1)
    settled = desk.settled(record)
    assert (settled.usage_source, settled.cost_source, settled.cost_nanousd) == (
        UsageSource.SETTLED,
        CostSource.REPORTED,
        1234,
    )
    assert (settled.input_tokens, settled.cached_input_tokens, settled.output_tokens) == (10, 4, 20)
    assert (settled.reasoning_tokens, settled.total_tokens, settled.model_served) == (5, 30, "m-served")
    assert (settled.outcome, settled.bytes_in) == (Outcome.CLIENT_CLOSED, 90)
    assert desk.house.observer.amendments == [settled]
    assert record.usage_source is UsageSource.ESTIMATED, "the record that was handed over is not touched"
    await desk.pass_time(7200)
    assert (desk.lookup.asked["gen-1"], desk.reconciler.unsettled) == (1, 0)


async def test_a_response_in_the_background_is_asked_about_for_as_long_as_it_runs(desk: Desk) -> None:
    """It may take hours: upstream offers 8. That it runs shows that there are books, so others are asked for, too."""
    fields: dict[str, Any] = {"generation_id": None, "background": True, "outcome": Outcome.COMPLETED}
    record = desk.broken_off(**fields, response_id="resp_1")
    nameless = desk.broken_off(**fields)
    others = [desk.broken_off() for _ in range(rules.AT_ONCE)]
    desk.lookup.entries["resp_1"] = StillRunning()
    desk.reconciler.take([*others, record])
    await desk.pass_time(3 * rules.PATIENCE_SECONDS)
    assert desk.settled(record).usage_source is UsageSource.NONE
    assert all(desk.lookup.asked[other.generation_id or ""] for other in others)
    desk.lookup.entries["resp_1"] = ENTRY
    await desk.pass_time(61)
    settled = desk.settled(record)
    assert (settled.usage_source, settled.total_tokens, settled.outcome) == (UsageSource.SETTLED, 30, Outcome.COMPLETED)
    assert not wants(nameless), "it has no id to ask by"
    assert not wants(replace(record, background=False)), "its answer was all there is"
    asked = desk.lookup.asked["resp_1"]
    await desk.pass_time(7200)
    assert desk.lookup.asked["resp_1"] == asked


async def test_a_response_that_was_deleted_is_given_up_and_casts_no_doubt_on_the_books(desk: Desk) -> None:
    deleted = desk.broken_off(generation_id=None, background=True, response_id="resp_1")
    record = desk.broken_off()
    desk.reconciler.take([deleted, record])
    await desk.pass_time(600)
    assert desk.lookup.asked["resp_1"] == rules.TRIAL_ATTEMPTS
    desk.lookup.entries[record.generation_id or ""] = ENTRY
    await desk.pass_time(3600)
    assert desk.settled(record).usage_source is UsageSource.SETTLED


async def test_one_that_never_ends_is_given_up_after_a_day(desk: Desk) -> None:
    record = desk.broken_off(generation_id=None, background=True, response_id="resp_1")
    desk.lookup.entries["resp_1"] = StillRunning()
    desk.reconciler.take([record])
    await desk.pass_time(24 * 3600 + 2 * rules.PATIENCE_SECONDS)
    assert desk.reconciler.unsettled == 0


async def test_a_response_that_ended_without_a_usage_is_left_as_it_is(desk: Desk) -> None:
    record = desk.broken_off(generation_id=None, background=True, response_id="resp_1", input_tokens=99)
    desk.lookup.entries["resp_1"] = UpstreamUsage(None, "m")
    desk.reconciler.take([record])
    await desk.pass_time(7200)
    assert (desk.lookup.asked["resp_1"], desk.reconciler.unsettled) == (1, 0)
    assert (desk.settled(record).usage_source, desk.settled(record).input_tokens) == (UsageSource.NONE, 99)


async def test_a_cost_that_the_books_do_not_tell_is_priced(desk: Desk) -> None:
    desk.house.prices["m-asked"] = price_from_config({"input": "1", "output": "2"})
    record = desk.broken_off(model_requested="m-asked")
    desk.lookup.entries["gen-1"] = UpstreamUsage(Usage(10, output_tokens=20, total_tokens=30))
    desk.reconciler.take([record])
    await desk.pass_time(1)
    settled = desk.settled(record)
    assert (settled.cost_source, settled.cost_nanousd) == (CostSource.PRICED, 10 * 1_000 + 20 * 2_000)
    assert settled.price


async def test_a_model_named_by_the_upstream_key_is_not_written_down(desk: Desk) -> None:
    record = desk.broken_off()
    desk.lookup.entries["gen-1"] = UpstreamUsage(ENTRY.usage, f"m-{UPSTREAM_KEY}")
    desk.reconciler.take([record])
    await desk.pass_time(1)
    settled = desk.settled(record)
    assert (settled.usage_source, settled.model_served) == (UsageSource.SETTLED, None)


async def test_it_asks_ever_more_seldom_and_gives_up_after_an_hour(desk: Desk) -> None:
    known, record = desk.broken_off(), desk.broken_off()
    desk.lookup.entries["gen-1"] = ENTRY  # so that upstream is known to have usage records
    desk.reconciler.take([known, record])
    asked_at = []
    began = desk.house.time.us
    wait = await desk.reconciler.ask_due()
    while wait is not None:
        desk.house.time.advance(wait)
        before = desk.lookup.asked["gen-2"]
        wait = await desk.reconciler.ask_due()
        if desk.lookup.asked["gen-2"] > before:
            asked_at.append(round((desk.house.time.us - began) / 1_000_000))
    assert asked_at[:8] == [1, 3, 7, 15, 31, 63, 123, 183]
    assert asked_at[-1] - asked_at[-2] == backoff_seconds(99, 0.5)
    assert rules.PATIENCE_SECONDS <= asked_at[-1] < rules.PATIENCE_SECONDS + 60
    assert desk.reconciler.unsettled == 0
    assert desk.settled(record).usage_source is UsageSource.NONE


async def test_no_more_than_four_are_asked_about_at_once(desk: Desk) -> None:
    records = [desk.broken_off() for _ in range(30)]
    desk.lookup.entries = {f"gen-{number}": ENTRY for number in range(1, 31)}
    desk.reconciler.take(records)
    await desk.pass_time(10)
    assert all(desk.settled(record).usage_source is UsageSource.SETTLED for record in records)
    assert desk.lookup.most_at_once == rules.AT_ONCE
    assert set(desk.lookup.asked.values()) == {1}


async def test_an_upstream_that_never_told_anything_is_asked_about_a_few_only(desk: Desk) -> None:
    desk.reconciler.take([desk.broken_off() for _ in range(50)])
    await desk.pass_time(rules.PAUSE_SECONDS / 2)
    assert sorted(desk.lookup.asked) == ["gen-47", "gen-48", "gen-49", "gen-50"], "the newest"
    assert max(desk.lookup.asked.values()) == rules.TRIAL_ATTEMPTS
    assert desk.reconciler.unsettled == 0
    before = desk.lookup.asked.total()
    desk.reconciler.take([desk.broken_off()])
    await desk.pass_time(60)
    assert (desk.lookup.asked.total(), desk.reconciler.unsettled) == (before, 0), "it is left alone for an hour"
    desk.lookup.entries = {f"gen-{number}": ENTRY for number in range(1, 52)}
    await desk.pass_time(rules.PAUSE_SECONDS)
    assert {record.usage_source for record in desk.house.ledger.settled.values()} == {UsageSource.SETTLED}


async def test_an_upstream_without_the_route_is_left_alone_at_once(desk: Desk) -> None:
    records = [desk.broken_off() for _ in range(3)]
    desk.lookup.entries = {f"gen-{number}": UsageNotKept() for number in range(1, 4)}
    desk.reconciler.take(records)
    await desk.pass_time(rules.PAUSE_SECONDS - 10)
    assert (desk.lookup.asked.total(), desk.reconciler.unsettled) == (3, 0)


async def test_trouble_is_no_answer_and_ends_by_itself(desk: Desk) -> None:
    record = desk.broken_off()
    desk.lookup.entries["gen-1"] = OSError("no route to host")
    desk.reconciler.take([record])
    await desk.pass_time(1200)
    assert desk.lookup.asked["gen-1"] > rules.TRIAL_ATTEMPTS
    assert desk.reconciler.unsettled == 1
    desk.lookup.entries["gen-1"] = ENTRY
    await desk.pass_time(60)
    assert desk.settled(record).usage_source is UsageSource.SETTLED


async def test_it_begins_with_what_the_ledger_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_PAGE", 7)
    day = rules.REACH_MICROSECONDS
    now = desk.house.time.us
    old = desk.broken_off(started_at=now - day - 10_000_000)
    recent = [desk.broken_off(started_at=now - day + 10_000_000 + number) for number in range(40)]
    at_once = [desk.broken_off(started_at=now - 5) for _ in range(7)]
    desk.lookup.entries = {f"gen-{number}": ENTRY for number in range(1, 100)}
    await desk.pass_time(20)
    assert {desk.settled(record).usage_source for record in (*recent, *at_once)} == {UsageSource.SETTLED}
    assert desk.settled(old).usage_source is UsageSource.NONE


async def test_what_finds_no_place_is_fetched_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_CASES", 10)
    await desk.reconciler.ask_due()
    records = [desk.broken_off() for _ in range(35)]
    desk.lookup.entries = {f"gen-{number}": ENTRY for number in range(1, 36)}
    desk.reconciler.take(records)
    assert desk.reconciler.unsettled == 10
    await desk.pass_time(60)
    assert {record.usage_source for record in desk.house.ledger.settled.values()} == {UsageSource.SETTLED}


async def test_a_ledger_that_cannot_be_read_is_read_later(desk: Desk) -> None:
    record = desk.broken_off()
    desk.lookup.entries["gen-1"] = ENTRY
    desk.reports.broken = True
    with pytest.raises(OSError, match="closed"):
        await desk.reconciler.ask_due()
    desk.reports.broken = False
    await desk.pass_time(5)
    assert desk.settled(record).usage_source is UsageSource.SETTLED


async def test_what_other_processes_left_open_is_fetched_when_it_was_closed_here(desk: Desk) -> None:
    closed = 0
    services = desk.house.services
    reconciler = UsageReconciler(desk.lookup, desk.reports, services, lambda: 0.5, interrupted=lambda: closed)
    desk.reconciler = reconciler
    await desk.pass_time(1)
    record = desk.broken_off(outcome=Outcome.INTERRUPTED)
    desk.lookup.entries["gen-1"] = ENTRY
    await desk.pass_time(600)
    assert desk.lookup.asked["gen-1"] == 0
    closed = 1
    await desk.pass_time(2)
    assert desk.settled(record).usage_source is UsageSource.SETTLED


async def test_it_works_by_itself_hears_of_other_threads_and_stops(house: House) -> None:
    desk = Desk(house)
    desk.reconciler = UsageReconciler(desk.lookup, desk.reports, replace(house.services), lambda: 0.5)
    desk.reconciler.start()
    record = desk.broken_off()
    weighed = desk.broken_off(usage_source=UsageSource.REPORTED)
    thread = threading.Thread(target=desk.reconciler.committed, args=([record, weighed],))
    thread.start()
    thread.join()
    desk.lookup.entries["gen-1"] = ENTRY
    async with asyncio.timeout(10):
        while desk.settled(record).usage_source is UsageSource.NONE:
            desk.house.time.advance(5)
            desk.reconciler.take([desk.broken_off()])  # wakes it
            await asyncio.sleep(0)
    assert desk.lookup.asked["gen-2"] == 0
    await desk.reconciler.close()
    asked = desk.lookup.asked.total()
    desk.house.time.advance(100)
    desk.reconciler.committed([desk.broken_off()])
    await asyncio.sleep(0)
    assert desk.lookup.asked.total() == asked


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, True),
        ({"usage_source": UsageSource.ESTIMATED}, True),
        ({"outcome": Outcome.COMPLETED}, True),  # it ended well and told no usage
        ({"outcome": Outcome.INTERRUPTED}, True),
        ({"usage_source": UsageSource.REPORTED}, False),
        ({"usage_source": UsageSource.SETTLED}, False),
        ({"generation_id": None}, False),
        ({"outcome": Outcome.REJECTED}, False),
        ({"outcome": Outcome.UPSTREAM_ERROR}, False),
        ({"outcome": Outcome.IN_PROGRESS}, False),
    ],
)
async def test_who_is_asked_about(desk: Desk, fields: dict[str, Any], wanted: bool) -> None:
    assert wants(desk.broken_off(**fields)) is wanted
