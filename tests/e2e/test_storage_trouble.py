"""Whatever becomes of the database, streams do not notice: every byte comes, at its time, and every record is there."""

import asyncio
import contextlib
import json
import math
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app.store.sqlite.store import DATABASE_NAME
from tests.conftest import GatewayStarter
from tests.e2e.books import Json, doubled, findings, rows
from tests.e2e.clocked import EVENTS, ClockedUpstream, clocked_upstream
from tests.e2e.crowd import Ask, Crowd, Told
from tests.e2e.program import Gateway

CLIENTS = 50
QUIET_SECONDS = 1.5
WARM_UP_SECONDS = 1.0
SLACK_SECONDS = 0.02
"""What a machine with everything else to do may be late by; no trouble of ours is over so soon."""


def at_share(late: list[float], share: float) -> float:
    """So many of them are not later."""
    return sorted(late)[math.ceil(share * len(late)) - 1]


class Watch:
    """A crowd of streams, before, in and after a time of trouble."""

    def __init__(self, gateway: Gateway, upstream: ClockedUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.crowd = Crowd(gateway.url, gateway.key, CLIENTS, lambda: Ask({"model": "m", "stream": True}))
        self.spans: dict[str, tuple[float, float]] = {}

    async def through(self, trouble: AbstractContextManager[None], seconds: float) -> None:
        """All of it."""
        running = asyncio.create_task(self.crowd.run())
        await asyncio.sleep(WARM_UP_SECONDS)
        await self._span("quiet", QUIET_SECONDS)
        with trouble:
            await self._span("trouble", seconds)
            self.storage_in_trouble = await self._storage()
        while not (await self._storage())["ok"]:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.1)
        self.crowd.stop()
        await running

    async def _span(self, name: str, seconds: float) -> None:
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        self.spans[name] = (begin, time.monotonic())

    async def _storage(self) -> Json:
        ready = await asyncio.to_thread(self.gateway.get, "/readyz")
        found: Json = ready.json["parts"]["storage"]
        return found

    def late(self, span: str, *, last: bool) -> list[float]:
        """How late the events came that left in the span: the last ones of answers, or all others."""
        begin, end = self.spans[span]
        return [late for told in self.crowd.told for at, late in lateness(told, last=last) if begin <= at < end]

    async def check_all(self) -> None:
        """All streams and records are whole, nobody waited, and the database is sound."""
        self._check_records()
        self._check_times()
        assert await asyncio.to_thread(findings, self.gateway.state_dir) == []

    def _check_records(self) -> None:
        told = self.crowd.told
        assert {(one.status, one.whole) for one in told} == {(200, True)}
        ids = [json.loads(one.body.split(b"\n")[1][6:])["response"]["id"] for one in told]
        assert sorted(ids) == sorted(self.upstream.sent)
        assert [bytes(one.body) for one in told] == [bytes(self.upstream.sent[id_]) for id_ in ids]
        found = rows(self.gateway.state_dir)
        assert doubled(found.values()) == []
        weighed = {(row["response_id"], row["outcome"], row["input_tokens"], row["output_tokens"])
                   for row in found.values()}  # fmt: skip
        assert weighed == {(id_, "completed", int(id_.removeprefix("resp_")), EVENTS) for id_ in ids}
        assert len(found) == len(told) > 2 * CLIENTS

    def _check_times(self) -> None:
        """An event of a stream is as late as without the trouble; an end of one waits for a second at the most."""
        quiet, trouble = self.late("quiet", last=False), self.late("trouble", last=False)
        assert len(trouble) > 500
        for share in (0.5, 0.95):
            assert at_share(trouble, share) < 5 * at_share(quiet, share) + SLACK_SECONDS
        assert max(self.late("trouble", last=True)) < 2.0 + max(self.late("quiet", last=True))


def lateness(told: Told, *, last: bool) -> Iterator[tuple[float, float]]:
    """When each event left upstream, and after how long the client had it."""
    offset = 0
    for line in bytes(told.body).splitlines(keepends=True):
        offset += len(line)
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if (event["type"] == "response.completed") is last:
                yield event["sent_at"], told.came_at(offset) - event["sent_at"]


@pytest.fixture
async def upstream() -> AsyncIterator[ClockedUpstream]:
    async with clocked_upstream() as upstream:
        yield upstream


@pytest.fixture
def watch(start_gateway: GatewayStarter, upstream: ClockedUpstream) -> Watch:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream.url, WEIGHBRIDGE_LOG_LEVEL="warning")
    return Watch(gateway, upstream)


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(state_dir / DATABASE_NAME, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextlib.contextmanager
def moved_away(state_dir: Path) -> Iterator[None]:
    database, elsewhere = state_dir / DATABASE_NAME, state_dir / "elsewhere"
    database.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(database)


@contextlib.contextmanager
def no_file_may_grow(pid: int) -> Iterator[None]:
    """A disk on which there is no room for this process. (The system asks for no right to say so of one's own.)"""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 4 MB at `folder`. False where we may not mount any."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "weighbridge-test", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # whoever still uses it may end first


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Something else takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()


async def test_a_lock_of_six_seconds(watch: Watch) -> None:
    await watch.through(locked(watch.gateway.state_dir), 6.0)
    assert watch.storage_in_trouble["problem"].startswith("database is locked")
    await watch.check_all()


async def test_a_database_that_is_not_there(watch: Watch) -> None:
    await watch.through(moved_away(watch.gateway.state_dir), 2.0)
    assert watch.storage_in_trouble["problem"].startswith("the database file is gone")
    await watch.check_all()


async def test_no_file_may_grow(watch: Watch) -> None:
    await watch.through(no_file_may_grow(watch.gateway.process.popen.pid), 2.0)
    assert "; spool: " in watch.storage_in_trouble["problem"]
    await watch.check_all()


async def test_a_full_disk(start_gateway: GatewayStarter, upstream: ClockedUpstream, tmp_path: Path) -> None:
    """A real one where we may mount one; elsewhere, a limit for the process has to do."""
    with small_disk(tmp_path / "state") as mounted:
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream.url, WEIGHBRIDGE_LOG_LEVEL="warning")
        watch = Watch(gateway, upstream)
        full = filled(gateway.state_dir) if mounted else no_file_may_grow(gateway.process.popen.pid)
        await watch.through(full, 2.0)
        assert not watch.storage_in_trouble["ok"]
        await watch.check_all()
        gateway.close()
