"""Whatever happens to calls, to us and to storage, in whatever order: the ledger says what upstream's books say.

The machine has the real gateway, the real ledger on SQLite and the mock upstream with its own books. It is the clients,
time, and whatever locks the database or kills the process. A crash is a copy of the directory as it lies on disk.
"""

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.domain.errors import UpstreamProtocolError
from app.domain.records import Record
from app.gateway.exchange.ending import Ending
from app.gateway.usage_query import UsageQuery
from app.gateway.usage_reconciler import UsageReconciler
from app.store.query.reports import SqlReports
from app.store.sqlite.inspection import inspect
from app.store.sqlite.reader import SqliteReader
from app.store.sqlite.store import DATABASE_NAME
from app.store.write.ledger import BatchLedger
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from tests.contract.hand_writer import HandWriter
from tests.contract.mock_upstream import Broken, MockAnswer, MockUpstream
from tests.e2e.books import TOKENS
from tests.gateway.house import House, Visit
from tests.gateway.test_exchange_laws import HandLoop
from tests.store.samples import crash_copy, lock_of, make_database

pytestmark = pytest.mark.timeout(240)

FAULTS = st.sampled_from([
    *("", "", "", "double-terminal", "incomplete", "failed-with-usage", "no-usage", "usage-null", "failed"),
    *("error-then-failed", "overloaded-200", "truncate@3", "truncate-clean@5", "cut-inside-terminal", "comments"),
    *("split=40", "crlf", "unknown-events"),
])  # fmt: skip


@dataclass
class OneCall:
    """A call, from both its ends."""

    visit: Visit
    answer: MockAnswer
    life: int
    headed: bool = False

    @property
    def request_id(self) -> str:
        return self.visit.exchange.record.request_id

    @property
    def saw_the_end(self) -> bool:
        return self.visit.client.ending == "finish"


@cache
def empty_database() -> bytes:
    with tempfile.TemporaryDirectory(prefix="weighbridge-test-") as directory:
        return make_database(Path(directory)).read_bytes()


class BooksMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize()
    def open(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="weighbridge-test-"))
        self.directory = self.root / "0"
        self.directory.mkdir()
        (self.directory / DATABASE_NAME).write_bytes(empty_database())
        self.loop = HandLoop()
        self.house = House()
        self.mock = MockUpstream(lambda: self.house.time.us / 1_000_000)
        self.all: list[OneCall] = []
        self.settlements: Counter[str] = Counter()
        self.have_rows: set[str] = set()  # calls of which there must be a row, whatever happens
        self.have_ids: set[str] = set()  # the same, with the id by which the books are asked
        self.lock: sqlite3.Connection | None = None
        self.life = 0
        self.run(self.begin())

    def run(self, step: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(step)

    async def begin(self) -> None:
        """A process starts."""
        path = self.directory / DATABASE_NAME
        services = self.house.services
        self.writer = HandWriter(path, services.clock.monotonic, self.let_go)
        ledger = BatchLedger(self.writer, LedgerStats(), clock=services.clock.monotonic)  # type: ignore[arg-type]
        self.ledger, settle = ledger, ledger.settle

        def counted(record: Record, durable: Callable[[], None]) -> None:
            self.settlements[record.request_id] += 1
            settle(record, durable)

        ledger.settle = counted  # type: ignore[method-assign]
        services = replace(services, ledger=ledger)
        self.house.gateway._services = services
        self.reader = SqliteReader(path)
        self.reconciler = UsageReconciler(self.mock, SqlReports(self.reader), services, lambda: 0.5)

    def let_go(self, pending: list[Pending], on_disk: bool) -> None:
        self.ledger.deliver(pending)
        if on_disk:
            self.reconciler.committed(one.record for one in pending)

    # -- a call ------------------------------------------------------------------------------------------------

    @rule(target=calls, stream=st.booleans(), fault=FAULTS, tokens=st.integers(1, 30), words=st.integers(1, 300))
    def admit(self, stream: bool, fault: str, tokens: int, words: int) -> OneCall:
        noted = {"mock_fault": fault, "mock_tokens": str(tokens)}
        asked = {"model": "openai/gpt-5.5-mini", "input": "say " * words, "stream": stream, "metadata": noted}
        made: list[OneCall] = []

        async def arrive() -> None:
            body = json.dumps(asked).encode()
            made.append(OneCall(self.house.visit(body), self.mock.answer(body), self.life))

        self.run(arrive())
        self.all += made
        return made[0]

    @rule(call=calls, frames=st.integers(1, 40))
    def upstream_speaks(self, call: OneCall, frames: int) -> None:
        """The head, then so many frames of what follows it."""

        async def speak() -> None:
            upstream = self.upstream_of(call)
            if not call.headed:
                call.headed = True
                upstream.head(200, *call.answer.headers)
            for _ in range(frames):
                if call.answer.over:
                    return
                try:
                    frame = await call.answer.take()
                except Broken:
                    upstream.broken(UpstreamProtocolError("cut"))
                    return
                if frame is None:
                    upstream.end()
                elif frame:
                    upstream.data(frame)
                await self.hang_up()

        if call.life == self.life and not call.answer.over:
            self.run(speak())

    @rule(call=calls)
    def leave(self, call: OneCall) -> None:
        async def go() -> None:
            call.visit.exchange.leave()
            await self.hang_up()

        if call.life == self.life and call.visit.client.ending is None:
            self.run(go())

    def lose_patience(self, call: OneCall) -> None:
        """What was read on towards nobody is given up."""

        async def give_up() -> None:
            call.visit.exchange.end_by(Ending.CLIENT_LEFT)
            await self.hang_up()

        if call.life == self.life:
            self.run(give_up())

    @rule()
    def refuse(self) -> None:
        """A body that goes nowhere."""

        async def arrive() -> None:
            self.house.visit(b"no JSON")

        self.run(arrive())

    # -- time, storage, the end of a process -------------------------------------------------------------------

    @rule()
    def write(self) -> None:
        async def turn() -> None:
            self.writer.turn()

        self.run(turn())

    @rule()
    def grow_old(self) -> None:
        """What is open now has been so for long, and is written."""
        self.write()
        self.house.time.advance(1.0)

        async def sweep() -> None:
            self.ledger.sweep()

        self.run(sweep())
        self.write()
        open_calls = [call for call in self.all if call.life == self.life]
        self.have_rows |= {call.request_id for call in open_calls}
        self.have_ids |= {call.request_id for call in open_calls if call.headed}

    @rule(seconds=st.sampled_from([1.0, 3.0, 100.0]))
    def ask_the_books(self, seconds: float) -> None:
        self.write()
        self.house.time.advance(seconds)
        self.loop.pass_time(seconds)

        async def ask() -> None:
            await self.hang_up()
            await self.reconciler.ask_due()

        self.run(ask())

    @rule()
    def lock_or_unlock(self) -> None:
        if self.lock is None:
            self.lock = lock_of(self.directory)
        else:
            self.unlock()

    @rule()
    def crash(self) -> None:
        self.life += 1
        copy = crash_copy(self.directory, self.root / str(self.life))
        self.unlock()
        self.run(self.end_of_process())
        self.loop.close()  # with what the dead process had still planned
        self.loop = HandLoop()
        self.directory = copy
        self.run(self.begin())

    async def end_of_process(self) -> None:
        for call in self.all:
            if not call.answer.over:
                await call.answer.close()
        await self.reader.close()
        self.writer.keeping.close()

    def unlock(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def upstream_of(self, call: OneCall) -> Any:  # noqa: ANN401 - HandCall
        return self.house.upstream.calls[self.all.index(call)]

    async def hang_up(self) -> None:
        """Where the gateway has hung up, the mock hears of it."""
        for call in self.all:
            if self.upstream_of(call).cancelled.is_set() and not call.answer.over:
                await call.answer.close()

    # -- the laws ----------------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_settled_twice(self) -> None:
        if hasattr(self, "settlements"):
            assert all(count == 1 for count in self.settlements.values())

    def finish(self) -> None:
        """All that is open ends, storage is well again, the books tell everything."""
        self.unlock()
        for call in self.all:
            self.leave(call)
            self.lose_patience(call)
        self.house.time.advance(60.0)
        for _ in range(200):
            self.ask_the_books(10.0)
            self.write()  # what ended in these seconds
            self.write()  # and what the reconciler has heard of that
            keeping = self.writer.keeping
            if not self.reconciler.unsettled and not keeping.waiting and keeping.problem is None:
                break
        self.write()

    def teardown(self) -> None:
        if not hasattr(self, "reader"):
            return
        try:
            self.finish()
            self.run(self.check())
        finally:
            self.run(self.end_of_process())
            self.loop.close()
            shutil.rmtree(self.root)

    async def check(self) -> None:
        rows = self.rows()
        for call in self.all:
            self.check_call(call, rows.get(call.request_id))
        entries = self.mock.entries
        told = [entries[row["generation_id"]] for row in rows.values() if row["generation_id"] is not None]
        untold = [row for row in rows.values() if row["generation_id"] is None]  # rejected, or guessed
        theirs = {name: sum(getattr(one.usage, called) for one in told) for name, called in TOKENS.items()}
        theirs["cost_nanousd"] = sum(one.cost_nanousd for one in told)
        (totals,) = await SqlReports(self.reader).totals(UsageQuery())
        assert totals["requests"] == len(rows)
        for name, total in theirs.items():
            assert (totals[name] or 0) == total + sum(row[name] or 0 for row in untold)
        assert await inspect(self.directory, self.directory / DATABASE_NAME) == []

    def check_call(self, call: OneCall, row: dict[str, Any] | None) -> None:
        """Its one record, and that this says what the books say."""
        if row is None:  # it was young and unanswered when its process died
            assert call.life < self.life
            assert call.request_id not in self.have_rows
            assert not call.saw_the_end
            return
        assert row["outcome"] != "in_progress"
        if row["generation_id"] is None:
            assert call.request_id not in self.have_ids
            assert row["outcome"] in ("interrupted", "client_closed")
            assert call.life < self.life or not call.headed
            return
        entry = call.answer.entry
        assert row["usage_source"] in ("reported", "settled")
        assert {name: row[name] for name in TOKENS} == {
            name: getattr(entry.usage, theirs) for name, theirs in TOKENS.items()
        }
        assert row["cost_nanousd"] == entry.cost_nanousd

    def rows(self) -> dict[str, dict[str, Any]]:
        with closing(sqlite3.connect(self.directory / DATABASE_NAME)) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute("SELECT * FROM records")]
        return {row["request_id"]: row for row in found}


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_books_for_long() -> None:
    run_state_machine_as_test(BooksMachine, settings=settings(max_examples=2000, stateful_step_count=60, deadline=None))
