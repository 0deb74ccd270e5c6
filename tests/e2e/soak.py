"""A soak: an hour of a bad day at once. Mixed calls, faults of upstream, clients that leave, a database that is locked.

What is watched beside it: the memory and the descriptors of the process, and at the end both sides' books.
"""

import asyncio
import contextlib
import random
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from app.store.sqlite.store import DATABASE_NAME
from tests.e2e.crowd import Ask, Crowd, Told
from tests.e2e.program import Gateway

CLIENTS = 40
LOCK_EVERY_SECONDS = 8.0
LOCK_SECONDS = 1.0
LOOKS = 60

MODELS = ("openai/gpt-5.5", "openai/gpt-5.5-mini", "anthropic/claude-sonnet-5", "google/gemini-3-flash")
FAULTS = (
    *("double-terminal", "incomplete", "failed-with-usage", "failed", "no-usage", "usage-null", "usage-list"),
    *("error-then-failed", "flat-error", "chat-error", "response-error", "overloaded-200"),
    *("truncate@4", "truncate-clean@9", "cut-inside-terminal", "reset@5", "crlf", "comments", "split=9", "gzip"),
    *("unknown-events", "big-terminal=1MB", "status=429", "500-html", "redirect", "garbage"),
)
"""Whatever cuts an answer off leaves its head whole: without a generation id, nobody's books could be asked."""


@dataclass(frozen=True)
class Look:
    """What the process uses."""

    rss_kb: int
    descriptors: int

    @classmethod
    def at(cls, pid: int) -> "Look":
        status = Path(f"/proc/{pid}/status").read_text()
        rss = int(status.partition("VmRSS:")[2].split()[0])
        return cls(rss, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


class Soak:
    """Runs for so many seconds; then `looks` has what was seen, evenly spread, and `told` what clients know."""

    def __init__(self, gateway: Gateway, seed: int = 1) -> None:
        self.gateway = gateway
        self.looks: list[Look] = []
        self.calls = 0
        self._chance = random.Random(seed)

    async def run(self, seconds: float) -> None:
        crowd = Crowd(self.gateway.url, self.gateway.key, CLIENTS, self._ask)
        crowd.told = _Counting(self)
        beside = [asyncio.create_task(self._look(seconds / LOOKS)), asyncio.create_task(self._meddle())]
        await crowd.run_for(seconds)
        for task in beside:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _ask(self) -> Ask:
        chance = self._chance
        body: dict[str, object] = {"model": chance.choice(MODELS), "input": "Say it. " * chance.randint(1, 200)}
        body["stream"] = chance.random() < 0.8
        body["metadata"] = {"mock_tokens": str(chance.choice([1, 5, 20, 60]))}
        kind = chance.random()
        if kind < 0.4:
            return Ask(body, {"x-mock-fault": chance.choice(FAULTS)})
        leaves = kind < 0.5 and body["stream"]
        return Ask(body, leave_after=chance.randint(1, 4000) if leaves else None)

    async def _look(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self.looks.append(Look.at(self.gateway.process.popen.pid))

    async def _meddle(self) -> None:
        path = self.gateway.state_dir / DATABASE_NAME
        while True:
            await asyncio.sleep(LOCK_EVERY_SECONDS - LOCK_SECONDS)
            with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as other:
                other.execute("BEGIN EXCLUSIVE")
                await asyncio.sleep(LOCK_SECONDS)


class _Counting(list[Told]):
    """Counts calls and forgets them: half an hour of answers is not to be kept."""

    def __init__(self, soak: Soak) -> None:
        super().__init__()
        self._soak = soak

    def append(self, _: Told) -> None:
        self._soak.calls += 1
