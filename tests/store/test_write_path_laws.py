"""Whatever comes in whatever order, and whatever storage does: each exchange is in the ledger once, and sums agree.

The machine drives Keeping, which has no threads and takes its time from us. A crash is a copy of the directory as it
lies on disk. For each id the model holds every row that may be there, given what was promised to be on disk.
"""

import asyncio
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.store.schema.rollups import DAY_MICROSECONDS, Additions
from app.store.schema.rows import OUTCOME_AT, Row, amended_row, is_amendment, open_row_of, row_of
from app.store.schema.tables import hours, records
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.dialect import compiled
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME
from app.store.write.batch import Batch
from app.store.write.maintenance import Maintenance
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from app.store.write.write_path import WritePath
from tests.store.samples import START, Samples, crash_copy, lock_of, make_database

World = Row | None
"""What there may be of an id: a row, or none."""
Step = Callable[[World], World]

FULL = st.sampled_from([0, 100, 700, 3_000, 20_000])
counts = st.none() | st.integers(0, 10**6)


class Model:
    """Of one id: what is surely on disk, and the steps that may still be in memory only."""

    def __init__(self) -> None:
        self.on_disk: set[World] = {None}
        self.in_memory: list[Step] = []

    def take(self, step: Step) -> None:
        self.in_memory.append(step)

    def flushed(self) -> None:
        for step in self.in_memory:
            self.on_disk = {step(world) for world in self.on_disk}
        self.in_memory.clear()

    def crashed(self) -> None:
        """Any of what was in memory may have reached the spool before it failed."""
        for step in self.in_memory:
            self.on_disk |= {step(world) for world in self.on_disk}
        self.in_memory.clear()
        self.on_disk = {_interrupted(world) for world in self.on_disk}


def _interrupted(world: World) -> World:
    if world is None or world[OUTCOME_AT] != "in_progress":
        return world
    row = list(world)
    row[OUTCOME_AT], row[16] = "interrupted", row[1]
    return tuple(row)


def _putting(row: Row) -> Step:
    return lambda world: row if world is None or world[OUTCOME_AT] == "in_progress" else world


def _amending(books: Row) -> Step:
    def step(world: World) -> World:
        if world is None or world[OUTCOME_AT] == "in_progress" or world[13] not in ("none", "estimated"):
            return world
        return amended_row(world, books) if is_amendment(books) else world

    return step


class StorageMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="weighbridge-test-"))
        self.directory = self.root / "0"
        self.directory.mkdir()
        make_database(self.directory)
        self.samples = Samples()
        self.models: dict[str, Model] = {}
        self.now = 0.0
        self.lives = 0
        self.lock: sqlite3.Connection | None = None
        self.room: int | None = None  # bytes a file may have; None: as many as it likes
        self.born: dict[str, int] = {}
        self.let_go: list[str] = []
        self.on_disk: set[str] = set()
        self.begin()

    def begin(self) -> None:
        upkeep = Maintenance(None, lambda: START + 10 * DAY_MICROSECONDS)
        path = self.directory / DATABASE_NAME
        self.stats = LedgerStats()
        self.keeping = WritePath(SqliteBackend(path), self.stats, self.heard, upkeep, lambda: self.now)
        self.keeping._database.connection.wait_for_locks(patiently=False)  # nobody will let go of a lock while we wait

    def heard(self, batch: list[Pending], on_disk: bool) -> None:
        self.let_go += [pending.record.request_id for pending in batch]
        if on_disk:  # of an earlier life's calls the settlement comes too late: they have been closed
            ids = (pending.record.request_id for pending in batch)
            self.on_disk.update(request_id for request_id in ids if self.born[request_id] == self.lives)

    def keep(self, batch: Batch) -> None:
        with self.little_room():
            self.keeping.keep(batch)

    @contextmanager
    def little_room(self) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def model(self, record: Record) -> Model:
        return self.models.setdefault(record.request_id, Model())

    @rule(target=calls, age=st.integers(0, 5 * DAY_MICROSECONDS), client=st.sampled_from(["alice", "bob"]))
    def admit(self, age: int, client: str) -> Record:
        record = self.samples.open(START + age, client=client, model_requested="m")
        self.born[record.request_id] = self.lives
        self.model(record).take(_putting(open_row_of(record)))
        self.keep(Batch(open=[open_row_of(record)]))
        return record

    @rule(record=calls)
    def note(self, record: Record) -> None:
        record.generation_id = "gen-1"
        self.model(record).take(_putting(open_row_of(record)))
        self.keep(Batch(open=[open_row_of(record)]))

    @rule(
        some=st.lists(calls, min_size=1, max_size=4),
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.TRUNCATED, Outcome.REJECTED]),
        source=st.sampled_from([UsageSource.NONE, UsageSource.ESTIMATED, UsageSource.REPORTED]),
        tokens=counts,
        again=st.booleans(),
    )
    def settle(
        self, some: list[Record], outcome: Outcome, source: UsageSource, tokens: int | None, again: bool
    ) -> None:
        """For the first time, or once more; one at a time or several, even one and the same, in a batch."""
        settled = [
            replace(record, outcome=outcome, usage_source=source, input_tokens=tokens, output_tokens=tokens)
            for record in (some * 2 if again else some)
        ]
        for record in settled:
            self.model(record).take(_putting(row_of(record)))
        before = len(self.let_go)
        self.keep(Batch(settled=[Pending(record, None, 0.0) for record in settled]))
        assert self.let_go[before:].count(settled[0].request_id) >= 1

    @rule(record=calls, tokens=counts, cost=counts, told=st.booleans())
    def amend(self, record: Record, tokens: int | None, cost: int | None, told: bool) -> None:
        if self.born[record.request_id] == self.lives and record.request_id not in self.let_go:
            return  # only calls that are over are amended
        source = UsageSource.SETTLED if told else UsageSource.REPORTED
        books = replace(record, usage_source=source, input_tokens=tokens, cost_nanousd=cost)
        books.cost_source = None if cost is None else CostSource.REPORTED
        self.model(record).take(_amending(row_of(books)))
        self.keep(Batch(amended=[row_of(books)]))

    @rule(seconds=st.sampled_from([0.0, 0.06, 1.0, 6.0]), times=st.integers(1, 5))
    def time_passes(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.now += seconds
            with self.little_room():
                self.keeping.tend(idle=True)

    @rule()
    def lock_database(self) -> None:
        if self.lock is None:
            self.lock = lock_of(self.directory)

    @rule()
    def unlock_database(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    @rule(room=FULL)
    def fill_disk(self, room: int) -> None:
        self.room = room

    @rule()
    def free_disk(self) -> None:
        self.room = None

    @rule()
    def crash(self) -> None:
        self.lives += 1
        copy = crash_copy(self.directory, self.root / str(self.lives))
        self.unlock_database()
        self.keeping.close()
        self.directory, self.room = copy, None
        for model in self.models.values():
            model.crashed()
        self.begin()

    @invariant()
    def what_memory_gave_away_is_on_disk(self) -> None:
        if not self.keeping._backlog:
            for model in self.models.values():
                model.flushed()
            assert self.on_disk >= {request_id for request_id in self.let_go if self.born[request_id] == self.lives}
        assert self.keeping.keeps or self.keeping._backlog

    def recover(self) -> None:
        self.unlock_database()
        self.room = None
        for _ in range(1_000):
            if not self.keeping.waiting and self.keeping.problem is None and self.keeping._recovered:
                return
            self.now += 6.0
            self.keeping.tend(idle=True)
        raise AssertionError(self.keeping.problem)

    def teardown(self) -> None:
        self.recover()
        for model in self.models.values():
            model.flushed()
        self.keeping.close()
        path = self.directory / DATABASE_NAME
        found = {row[0]: row for row in _read(path, sa.select(records))}
        for request_id in self.on_disk:
            assert found[request_id][OUTCOME_AT] in ("completed", "truncated", "rejected")
        self.check_sums(found.values(), _read(path, sa.select(hours)))
        for request_id, model in self.models.items():
            assert found.pop(request_id, None) in model.on_disk
        assert not found
        # This process's own open calls are still open: nobody has closed them.
        findings = asyncio.run(inspect(self.directory, path))
        assert all("calls open though their process has ended" in finding for finding in findings)
        shutil.rmtree(self.root)

    def check_sums(self, rows: Iterable[Row], rolled_up: list[Row]) -> None:
        expected = Additions()
        expected.add(row for row in rows if row[OUTCOME_AT] != "in_progress")
        assert sorted(rolled_up) == sorted(expected.hours())


def _read(path: Path, statement: sa.Select[tuple[object, ...]]) -> list[Row]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(compiled(statement).text).fetchall()


TestStorage = StorageMachine.TestCase
TestStorage.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_storage_for_long() -> None:
    run_state_machine_as_test(
        StorageMachine, settings=settings(max_examples=600, stateful_step_count=60, deadline=None)
    )
