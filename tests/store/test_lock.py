"""One process at a time."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from app.store.faults import StoreBusy
from app.store.lock import LOCK_NAME, StoreLock
from app.store.sqlite.store import open_store
from tests.store.samples import PATIENCE_SECONDS

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_second_store_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        with pytest.raises(StoreBusy, match=rf"in use by another Weighbridge process \(process id {os.getpid()}\)"):
            async with open_store(tmp_path):
                pass
    async with open_store(tmp_path) as again:
        assert again.health().ok


async def test_the_lock_is_waited_for(tmp_path: Path) -> None:
    first = await StoreLock.acquire(tmp_path, 0)
    second = asyncio.create_task(StoreLock.acquire(tmp_path, PATIENCE_SECONDS))
    await asyncio.wait({second}, timeout=0.2)
    assert not second.done()
    first.release()
    first.release()
    (await second).release()


async def test_the_lock_ends_with_its_process_however_that_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK_NAME)]
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(StoreBusy):
        await StoreLock.acquire(tmp_path, 0)
    holder.kill()
    (await StoreLock.acquire(tmp_path, PATIENCE_SECONDS)).release()
    await holder.wait()


async def test_a_store_that_cannot_be_opened_lets_go_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    for _ in range(2):
        with pytest.raises(Exception, match="cannot be read: file is not a database"):
            async with open_store(tmp_path):
                pass
