"""Migrations: from nothing to the tables of app.store.schema.tables, all or nothing, and never backwards."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.store.faults import SchemaTooNew, StoreDamaged, StoreFault
from app.store.schema import revisions, tables
from app.store.schema.rollups import Additions
from app.store.schema.rows import row_of
from app.store.schema.tables import metadata
from app.store.sqlite import schema
from app.store.sqlite.dialect import compiled
from app.store.sqlite.store import DATABASE_NAME
from tests.store.samples import Samples, some_records

REPOSITORY = Path(__file__).parents[2]

OPENS_A_STORE = """
import asyncio, sys
from pathlib import Path
from app.store.sqlite.store import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        await store.clients.load_keys()

asyncio.run(main())
print(sorted({"alembic", "sqlalchemy.ext.asyncio"} & set(sys.modules)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a ?#%41.db"


def test_the_head_is_the_newest_script() -> None:
    assert ScriptDirectory.from_config(revisions.alembic_config()).get_heads() == [revisions.HEAD]


def test_from_nothing_to_the_tables(path: Path) -> None:
    assert schema.current_revision(path) is None
    path.touch()
    assert schema.current_revision(path) is None
    assert schema.upgrade(path)
    assert schema.current_revision(path) == revisions.HEAD
    assert not schema.upgrade(path)
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path), poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for table in metadata.sorted_tables:  # rows are written by place
            columns = sa.inspect(connection).get_columns(table.name)
            assert [column["name"] for column in columns] == [column.name for column in table.c]
        described = "".join(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars())
    assert described.count("WITHOUT ROWID") == 7
    assert "WHERE outcome = 'in_progress'" in described
    told_later = "(generation_id IS NOT NULL OR background IS NOT NULL)"
    assert f"WHERE usage_source IN ('none', 'estimated') AND {told_later}" in described


def test_open_calls_are_found_without_reading_the_ledger(path: Path) -> None:
    schema.upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT 1 FROM records WHERE outcome = 'in_progress'").fetchall()
    assert "USING INDEX records_in_progress" in str(plan) or "USING COVERING INDEX records_in_progress" in str(plan)


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    schema.upgrade(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="has schema 9999, which this version does not know"):
        schema.upgrade(path)
    assert schema.current_revision(path) == "9999"


def test_what_is_no_database_is_left_alone(path: Path) -> None:
    path.write_text("This is a letter to my grandmother. " * 200)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        schema.upgrade(path)
    assert path.read_text().startswith("This is a letter")


def migrated(path: Path, revision: str) -> None:
    """A database as the version of this revision has left it."""
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path), poolclass=sa.NullPool)
    with engine.begin() as connection:
        config = revisions.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_the_first_roll_ups_are_what_the_records_add_up_to(path: Path) -> None:
    migrated(path, "0001")
    records = [*some_records(300), Samples(2).open()]
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = list(tables.records.c)[: tables.records.c.keys().index("background")]
        insert = compiled(sa.insert(tables.records).values({column: sa.bindparam(column.name) for column in columns}))
        connection.executemany(insert.text, [row_of(record)[: len(columns)] for record in records])
    assert schema.upgrade(path)
    expected = Additions()
    expected.add(map(row_of, records[:-1]))
    with closing(sqlite3.connect(path)) as connection:
        rollups = connection.execute("SELECT * FROM rollups").fetchall()
    assert sorted(rollups) == sorted(expected.hours())
    assert len(rollups) > 100


def described(path: Path) -> tuple[set[tuple[str, ...]], list[tuple[object, ...]]]:
    """What a database is, but for white space, and what is in it from the beginning."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
        begun = connection.execute("SELECT * FROM ledger_progress, alembic_version").fetchall()
        for name in sorted(table.name for table in metadata.sorted_tables if table.name != "ledger_progress"):
            begun += connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
    return {(*row[:3], re.sub(r"\s*([(),])\s*|\s+", r" \1 ", row[3]).strip()) for row in rows}, begun


def test_a_new_database_is_what_the_migrations_make(path: Path, tmp_path: Path) -> None:
    migrated(tmp_path / "old.db", "head")
    assert schema.upgrade(path)
    assert described(path) == described(tmp_path / "old.db")


def test_a_new_database_is_made_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = [*schema._making()][:5]
    monkeypatch.setattr(schema, "_making", lambda: iter([*statements, "CREATE nonsense"]))
    with pytest.raises(StoreFault, match="could not be brought to schema"):
        schema.upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE records (someone_elses TEXT)")
    with pytest.raises(StoreFault, match="could not be brought to schema"):
        schema.upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("records",)]


def test_only_an_upgrade_imports_alembic_and_nothing_the_reading_side(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    migrated(old / DATABASE_NAME, "0001")
    for folder, imported in ((tmp_path, b"[]\n"), (tmp_path, b"[]\n"), (old, b"['alembic']\n"), (old, b"[]\n")):
        command = [sys.executable, "-c", OPENS_A_STORE, str(folder)]
        assert subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout == imported
