"""A database whose schema can be read and whose keys cannot: told in a sentence, not in a traceback."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.store.opening import upgraded
from app.store.sqlite.store import DATABASE_NAME
from tests.e2e.program import clean_environment, run


@pytest.mark.parametrize("command", [("serve", "--demo", "--port", "0"), ("keys", "list")], ids=" ".join)
def test_it_is_told(tmp_path: Path, command: tuple[str, ...]) -> None:
    asyncio.run(upgraded(None, tmp_path))
    path = tmp_path / DATABASE_NAME
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'keys'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    done = run(*command, env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path)))
    assert (done.returncode, done.stdout) == (1, "")
    assert "The database cannot be read at the moment: database disk image is malformed" in done.stderr
    assert "weighbridge: clients and keys cannot be read: see `weighbridge db check`" in done.stderr
    assert "Traceback" not in done.stderr
