"""The writing connection."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.store.schema.rollups import DAY_MICROSECONDS
from app.store.schema.rows import Rows, open_row_of, row_of
from app.store.schema.tables import clients, days, hours, records
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.dialect import compiled
from app.store.sqlite.write_connection import Misplaced, SqliteWriteConnection
from app.store.write.ledger_database import LedgerDatabase
from tests.store.samples import Samples, make_database, stored

START = 1_790_035_200_000_000  # a day begins


@pytest.fixture
def database(tmp_path: Path) -> Iterator[LedgerDatabase]:
    make_database(tmp_path)
    with closing(LedgerDatabase(SqliteBackend(tmp_path / "weighbridge.db"))) as database:
        yield database


def file_of(database: LedgerDatabase) -> SqliteWriteConnection:
    assert isinstance(database.connection, SqliteWriteConnection)
    return database.connection


def write(database: LedgerDatabase, *settled: Record) -> int:
    return database.write(Rows(settled=[row_of(record) for record in settled]))


def sums(database: LedgerDatabase, table: sa.Table = hours) -> list[tuple[Any, ...]]:
    """begins_at, client, model, kind, requests, unknown usage, unknown cost, input, output, cost."""
    names = ("begins_at", "client", "model", "kind", "requests", "unknown_usage", "unknown_cost")
    columns = [table.c[name] for name in (*names, "input_tokens", "output_tokens", "cost_nanousd")]
    return database.run([compiled(sa.select(*columns).order_by(*list(table.primary_key)))], reads=True)[0].rows


def test_a_commit_survives_a_power_cut(database: LedgerDatabase) -> None:
    pragmas = {"synchronous": 2, "journal_mode": "wal", "mmap_size": 0, "foreign_keys": 1}
    for pragma, value in pragmas.items():
        assert file_of(database)._connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_a_record_that_no_database_takes_is_counted_and_keeps_no_other_back(
    database: LedgerDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples()
    bad = [samples.settled(client=None), samples.settled(path={"not": "text"}), samples.settled(total_tokens="many")]
    good = [samples.settled(), samples.settled()]
    assert write(database, good[0], *bad, good[1]) == 3
    assert set(stored(tmp_path)) == {record.request_id for record in good}
    assert sum(line[4] for line in sums(database)) == 2
    assert f"The record of {bad[0].request_id} cannot be stored" in caplog.text


def test_a_batch_is_written_whole_or_not_at_all(database: LedgerDatabase, tmp_path: Path) -> None:
    new = sa.insert(clients).values(name="alice", created_at=1)
    with pytest.raises(sqlite3.IntegrityError):
        database.run([compiled(new), compiled(new)])
    assert database.run([compiled(sa.select(clients.c.name))])[0].rows == []
    assert database.run([compiled(new)])[0].rowcount == 1
    assert database.run([compiled(sa.select(clients.c.name))])[0].rows == [("alice",)]


def test_a_connection_that_is_good_for_nothing_is_replaced(database: LedgerDatabase, tmp_path: Path) -> None:
    record = Samples().settled()
    database.close()
    with pytest.raises(sqlite3.Error):
        write(database, record)
    file_of(database).reopen()
    assert write(database, record) == 0
    assert stored(tmp_path) == {record.request_id: "completed"}


def test_a_file_that_is_gone_is_not_made_anew_and_one_that_is_back_is_taken(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "weighbridge.db"
    file_of(database).check_place()
    path.rename(tmp_path / "elsewhere")
    for step in (file_of(database).check_place, file_of(database).reopen):
        with pytest.raises(Misplaced, match="the database file is gone"):
            step()
    assert not path.exists()
    path.write_bytes((tmp_path / "elsewhere").read_bytes())
    with pytest.raises(Misplaced, match="was replaced while in use: restart Weighbridge"):
        file_of(database).reopen()
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    file_of(database).reopen()
    assert write(database, Samples().settled()) == 0


def test_settled_rows_are_added_to_the_hour_in_which_they_began(database: LedgerDatabase) -> None:
    samples = Samples()
    hour = 3_600_000_000
    write(
        database,
        samples.settled(START),
        samples.settled(START + hour - 1, input_tokens=None, model_served=None),
        samples.settled(START + hour - 1, cost_nanousd=None, outcome=Outcome.TRUNCATED),
        samples.settled(START + hour, client="bob", outcome=Outcome.REJECTED, input_tokens=None, cost_nanousd=None),
        samples.settled(START, model_served="", model_requested=None),
    )
    write(database, samples.settled(START + 5))
    served, asked = "gpt-5.5-2026-08-01", "openai/gpt-5.5"
    assert sums(database) == [
        (START, "alice", "", "completed", 1, 0, 0, 1000, 100, 1_250_000),
        (START, "alice", served, "completed", 2, 0, 0, 2000, 200, 2_500_000),
        (START, "alice", served, "other", 1, 0, 1, 1000, 100, None),
        (START, "alice", asked, "completed", 1, 1, 0, None, 100, 1_250_000),
        (START + hour, "bob", served, "rejected", 1, 0, 0, None, 100, None),
    ]


def test_a_second_settlement_and_an_open_row_add_nothing(database: LedgerDatabase) -> None:
    samples = Samples()
    first, other = samples.settled(START), samples.settled(START)
    again = replace(first, input_tokens=7)
    database.write(Rows([open_row_of(first)], [row_of(first), row_of(again), row_of(other)]))
    once = sums(database)
    assert once[0][4:8] == (2, 0, 0, 2000)
    database.write(Rows([open_row_of(first)], [row_of(again)]))
    assert write(database, again, other) == 0
    assert sums(database) == once


def test_an_absurd_number_does_not_overflow_the_sums_of_others(database: LedgerDatabase) -> None:
    samples = Samples()
    for _ in range(3):
        write(database, *[samples.settled(START, input_tokens=2**62) for _ in range(3)])
    assert sums(database)[0][4:8] == (9, 0, 0, 2**56)


def books(record: Record, **values: Any) -> Record:  # noqa: ANN401 - Record's fields
    return replace(record, usage_source=UsageSource.SETTLED, cost_source=CostSource.REPORTED, price=None, **values)


def test_the_books_amend_what_is_unknown_or_estimated_once(database: LedgerDatabase) -> None:
    samples = Samples()
    broken = samples.settled(
        START, outcome=Outcome.TRUNCATED, usage_source=UsageSource.NONE, input_tokens=None, output_tokens=None,
        cost_nanousd=None, cost_source=None, generation_id="gen-1",
    )  # fmt: skip
    guessed = samples.settled(START, usage_source=UsageSource.ESTIMATED, cost_source=CostSource.ESTIMATED, price="{}")
    known = samples.settled(START)
    write(database, broken, guessed, known)
    told = [
        books(broken, input_tokens=50, output_tokens=5, cost_nanousd=900),
        books(guessed, input_tokens=900, output_tokens=None, cost_nanousd=None),
        books(known, input_tokens=1, cost_nanousd=1),
        books(samples.settled(START), input_tokens=3),
    ]
    later = [books(record, input_tokens=77_777, cost_nanousd=77_777) for record in told]
    for amendments in (told, later):
        database.write(Rows(amended=[row_of(record) for record in amendments]))
    kept = database.run([compiled(sa.select(records).order_by(records.c.request_id))], reads=True)[0].rows
    guessed_now = replace(guessed, usage_source=UsageSource.SETTLED, input_tokens=900)
    assert kept == [row_of(record) for record in (told[0], guessed_now, known)]
    assert [line[3:] for line in sums(database)] == [
        ("completed", 2, 0, 0, 1900, 200, 2_500_000),
        ("other", 1, 0, 0, 50, 5, 900),
    ]


def test_nothing_but_the_books_amends(database: LedgerDatabase) -> None:
    record = Samples().settled(START, usage_source=UsageSource.ESTIMATED)
    write(database, record)
    for source in (UsageSource.REPORTED, UsageSource.ESTIMATED, UsageSource.NONE):
        database.write(Rows(amended=[row_of(replace(record, usage_source=source, input_tokens=1))]))
    database.write(Rows(amended=[row_of(books(record, input_tokens="1"))]))
    assert sums(database)[0][7] == 1000


def test_what_is_left_open_is_closed_and_counted_in_one_go(database: LedgerDatabase) -> None:
    database.write(Rows(open=[open_row_of(Samples().open(START)), open_row_of(Samples(2).open(START))]))
    assert sums(database) == []
    for _ in range(2):
        database.close_interrupted()
        assert sums(database) == [(START, "alice", "", "other", 2, 2, 2, None, None, None)]


def test_days_that_are_over_are_added_up_and_what_comes_late_is_added_to_them(database: LedgerDatabase) -> None:
    samples = Samples()
    write(database, *[samples.settled(START + hour * 3_600_000_000) for hour in range(26)])
    assert not database.fold_day(START + DAY_MICROSECONDS - 1)
    assert database.fold_day(START + DAY_MICROSECONDS)
    assert not database.fold_day(START + DAY_MICROSECONDS)
    assert [line[4] for line in sums(database, days)] == [24]
    estimated = samples.settled(START + 5, usage_source=UsageSource.ESTIMATED)
    write(database, samples.settled(START + 3), estimated, samples.settled(START - 1))
    database.write(Rows(amended=[row_of(books(estimated, input_tokens=5_000))]))
    assert [(line[0], line[4], line[7]) for line in sums(database, days)] == [
        (START - DAY_MICROSECONDS, 1, 1000),
        (START, 26, 30_000),
    ]
    with closing(LedgerDatabase(SqliteBackend(file_of(database)._path))) as another:
        write(another, samples.settled(START))
        assert another.fold_day(START + 9 * DAY_MICROSECONDS)
        assert [line[4] for line in sums(another, days)] == [1, 27, 2]
