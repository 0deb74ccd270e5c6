"""Records to write, and what a test does with a ledger again and again."""

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from app.domain.identity.request_ids import RequestIds
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.ports import Ledger
from app.store.query.totals import SUMS
from app.store.sqlite import schema
from app.store.sqlite.store import DATABASE_NAME

PATIENCE_SECONDS = 20.0
START = 1_790_000_000_000_000


class Samples:
    """Makes records whose ids belong together."""

    def __init__(self, process: int = 1) -> None:
        self._ids = RequestIds(process)

    def open(self, started_at: int | None = None, **values: Any) -> Record:  # noqa: ANN401 - Record's fields
        """A call under way."""
        now = time.time_ns() // 1000 if started_at is None else started_at
        named = {"client": "alice", "key_id": "k123456789", "upstream": "openrouter", "path": "/responses", **values}
        return Record(self._ids.next(now), now, **named)

    def settled(self, started_at: int | None = None, **values: Any) -> Record:  # noqa: ANN401 - Record's fields
        """A call that went well."""
        usual: dict[str, Any] = {
            "outcome": Outcome.COMPLETED,
            "usage_source": UsageSource.REPORTED,
            "cost_source": CostSource.PRICED,
            "model_requested": "openai/gpt-5.5",
            "model_served": "gpt-5.5-2026-08-01",
            "http_status": 200,
            "stream": True,
            "input_tokens": 1000,
            "output_tokens": 100,
            "cost_nanousd": 1_250_000,
            "duration_ms": 812.5,
        }
        return self.open(started_at, **{**usual, **values})


def some_records(count: int) -> list[Record]:
    """Of all kinds, one every 97 seconds from START on."""
    chance = random.Random(count)
    samples = Samples()
    outcomes = [outcome for outcome in Outcome if outcome is not Outcome.IN_PROGRESS]
    return [
        samples.settled(
            START + number * 97_000_000,
            client=chance.choice(["alice", "bob", "carol"]),
            upstream=("mock", "openrouter", "openrouter")[number % 3],
            outcome=chance.choice(outcomes),
            model_requested=chance.choice(["openai/a", "b", None]),
            model_served=chance.choice(["a-2026", None]),
            **{name: chance.choice([None, 0, chance.randint(1, 10**6)]) for name in SUMS},
        )
        for number in range(count)
    ]


def make_database(state_dir: Path) -> Path:
    """An empty database of the present schema."""
    path = state_dir / DATABASE_NAME
    path.touch()
    schema.upgrade(path)
    return path


def lock_of(state_dir: Path) -> sqlite3.Connection:
    """Somebody else's connection that holds the write lock until it is closed."""
    connection = sqlite3.connect(state_dir / DATABASE_NAME, isolation_level=None, timeout=0)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def crash_copy(state_dir: Path, copy: Path) -> Path:
    """The directory as a process that dies now leaves it; gives the copy. What processes share of a WAL is gone."""
    return shutil.copytree(state_dir, copy, ignore=shutil.ignore_patterns("*-shm"))


async def settle(ledger: Ledger, *records: Record) -> None:
    """Settle them all and wait until each is durable."""
    waiting = {id(record) for record in records}
    done = asyncio.Event()

    def durable(record: Record) -> None:
        waiting.remove(id(record))
        if not waiting:
            done.set()

    for record in records:
        ledger.settle(record, lambda record=record: durable(record))  # type: ignore[misc]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a state that must come."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - the state is a file's or a thread's
            await asyncio.sleep(0.01)


def stored(state_dir: Path) -> dict[str, str]:
    """Request id -> outcome, as another process would read it."""
    uri = (state_dir / DATABASE_NAME).absolute().as_uri()
    with closing(sqlite3.connect(f"{uri}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT request_id, outcome FROM records").fetchall()
    assert len(rows) == len({row[0] for row in rows})
    return dict(rows)
