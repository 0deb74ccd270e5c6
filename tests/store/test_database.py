"""The writing connection."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.store.database import Database, compiled
from app.store.tables import clients
from tests.store.samples import Samples, make_database, stored


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    make_database(tmp_path)
    with closing(Database.open(tmp_path / "weighbridge.db")) as database:
        yield database


def test_a_commit_survives_a_power_cut(database: Database) -> None:
    pragmas = {"synchronous": 2, "journal_mode": "wal", "mmap_size": 0, "foreign_keys": 1}
    for pragma, value in pragmas.items():
        assert database._connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_a_record_that_no_database_takes_is_counted_and_keeps_no_other_back(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples()
    bad, odd = samples.settled(client=None), samples.settled(path={"not": "text"})
    good = [samples.settled(), samples.settled()]
    assert database.write([], [good[0], bad, odd, good[1]]) == 2
    assert set(stored(tmp_path)) == {record.request_id for record in good}
    assert f"The record of {bad.request_id} cannot be stored" in caplog.text


def test_a_batch_is_written_whole_or_not_at_all(database: Database, tmp_path: Path) -> None:
    new = sa.insert(clients).values(name="alice", created_at=1)
    with pytest.raises(sqlite3.IntegrityError):
        database.run([compiled(new), compiled(new)])
    assert database.run([compiled(sa.select(clients.c.name))])[0].rows == []
    assert database.run([compiled(new)])[0].rowcount == 1
    assert database.run([compiled(sa.select(clients.c.name))])[0].rows == [("alice",)]


def test_a_connection_that_is_good_for_nothing_is_replaced(database: Database, tmp_path: Path) -> None:
    record = Samples().settled()
    database.close()
    with pytest.raises(sqlite3.Error):
        database.write([], [record])
    database.reopen()
    assert database.write([], [record]) == 0
    assert stored(tmp_path) == {record.request_id: "completed"}


def test_a_file_that_is_gone_is_not_made_anew(database: Database, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.db").rename(tmp_path / "elsewhere")
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        database.reopen()
    assert not (tmp_path / "weighbridge.db").exists()
