"""`usage --by request | less` without a server: what is not read yet is not printed yet, and nobody is kept waiting."""

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from app.store.sqlite.store import DATABASE_NAME, open_store
from tests.e2e.program import COMMAND, START_SECONDS, clean_environment
from tests.store.samples import Samples, settle

RECORDS = 3000


async def fill(state_dir: Path) -> None:
    samples = Samples()
    async with open_store(state_dir) as store:
        await settle(store.ledger, *[samples.settled() for _ in range(RECORDS)])


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_it_holds_no_lock_while_it_waits_for_its_reader(form: list[str], tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path))
    command = [*COMMAND, "usage", "--by", "request", *form]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, bufsize=1) as pager:
        assert pager.stdout is not None
        first = pager.stdout.readline()
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("ROLLBACK")
        asyncio.run(fill(tmp_path))  # as a server would: it takes the lock of the directory
        assert pager.poll() is None
        lines = [first, *pager.stdout]
        assert pager.wait(START_SECONDS) == 0
    heads = 0 if form == ["--json"] else 1
    assert len(lines) - heads in range(RECORDS, 2 * RECORDS + 1)


def test_a_pager_that_is_left_early(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path))
    command = [*COMMAND, "usage", "--by", "request"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pager:
        assert pager.stdout is not None
        assert pager.stderr is not None
        pager.stdout.readline()
        pager.stdout.close()
        assert pager.stderr.read() == ""
        assert pager.wait(START_SECONDS) == 1
