"""Backups are whole, private and overwrite nothing, also while the server writes."""

import asyncio
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from app.store.faults import StoreDamaged, StoreFault
from app.store.sqlite.backup import back_up
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME, open_store
from tests.store.samples import Samples, settle, stored


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_copy_made_under_load_is_whole_and_has_all_that_was_durable(tmp_path: Path) -> None:
    samples = Samples()
    durable: set[str] = set()
    copies = tmp_path / "copies"
    copies.mkdir()
    state_dir = tmp_path / "state"
    async with open_store(state_dir) as store:
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                records = [samples.settled() for _ in range(50)]
                await settle(store.ledger, *records)
                durable.update(record.request_id for record in records)

        loading = asyncio.create_task(load())
        for number in range(5):
            before = set(durable)
            copy = copies / f"{number}.db"
            assert await asyncio.to_thread(back_up, state_dir / DATABASE_NAME, copy) == copy.stat().st_size
            restored = tmp_path / f"restored-{number}"
            restored.mkdir()
            shutil.copy(copy, restored / DATABASE_NAME)
            assert before <= stored(restored).keys()
            async with open_store(restored):
                pass
            assert await inspect(restored, restored / DATABASE_NAME) == []
        stop.set()
        await loading
    assert names(copies) == [f"{number}.db" for number in range(5)]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in copies.iterdir()} == {"0o600"}


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    target = tmp_path / "precious"
    target.write_text("letters")
    with pytest.raises(StoreFault, match="precious exists already: name a new file"):
        back_up(tmp_path / DATABASE_NAME, target)
    assert target.read_text() == "letters"
    with pytest.raises(StoreFault, match="there is no database"):
        back_up(tmp_path / "nowhere", tmp_path / "copy")
    (tmp_path / "empty").touch()
    with pytest.raises(StoreFault, match="there is no database"):
        back_up(tmp_path / "empty", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_of_a_damaged_database_there_is_no_copy(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await settle(store.ledger, *[Samples(process).settled(price="x" * 900) for process in range(200)])
    path = tmp_path / DATABASE_NAME
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[-3 * page_size :] = b"\xa5" * (3 * page_size)
    path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        back_up(path, tmp_path / "copy")
    assert not [name for name in names(tmp_path) if name.startswith("copy")]
