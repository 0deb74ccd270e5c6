"""An inspection finds what is wrong, each kind of it, and nothing where all is well."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.records import UsageSource
from app.store.query.inspection import MOST_OF_A_KIND, spool_findings
from app.store.schema.revisions import HEAD
from app.store.schema.rollups import DAY_MICROSECONDS
from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME, open_store
from tests.store.samples import START, Samples, settle, some_records, until

NOW = START + 3 * DAY_MICROSECONDS


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A ledger with records, roll-ups of hours and days, and a key."""
    async with open_store(tmp_path, now=lambda: NOW) as store:
        await settle(store.ledger, *some_records(2_000))
        await until(lambda: len(changed(tmp_path / DATABASE_NAME, "SELECT 1 FROM daily_rollups")) > 0)
    return tmp_path / DATABASE_NAME


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def changed(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


async def test_a_good_store_has_no_findings_with_and_without_a_server(path: Path) -> None:
    assert await inspect(path.parent, path) == []
    async with open_store(path.parent) as store:
        await settle(store.ledger, Samples(3).settled())
        store.ledger.admit(Samples(4).open())
        await until(lambda: store.ledger.stats.admitted == 1)
        assert await inspect(path.parent, path) == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE rollups SET cost_nanousd = cost_nanousd + 1 WHERE begins_at = (SELECT max(begins_at) FROM rollups)",
         "roll-ups: an hour differs from what it sums up: 2026-09-23T"),
        ("UPDATE daily_rollups SET requests = requests + 1", "roll-ups: a day differs from what it sums up: 2026"),
        ("DELETE FROM records WHERE request_id = (SELECT max(request_id) FROM records)", "roll-ups: an hour differs"),
        ("DELETE FROM rollups WHERE begins_at = (SELECT max(begins_at) FROM rollups)", "roll-ups: an hour differs"),
        ("INSERT INTO keys (key_id, client, digest, created_at) VALUES ('k', 'nobody', x'00', 1)",
         "foreign keys: a row of keys names one of clients that is not there"),
        ("UPDATE records SET outcome = 'in_progress' WHERE request_id = (SELECT min(request_id) FROM records)",
         "calls open though their process has ended: 1;"),
        ("UPDATE alembic_version SET version_num = '0001'", "the schema is 0001, not 0007: `weighbridge db upgrade`"),
        ("DROP TABLE alembic_version", "there is no database"),
    ],
)  # fmt: skip
async def test_a_fault_is_found(path: Path, statement: str, finding: str) -> None:
    changed(path, statement)
    findings = await inspect(path.parent, path)
    assert findings
    assert any(found.startswith(finding) for found in findings), findings


async def test_many_of_a_kind_are_counted(path: Path) -> None:
    changed(path, "UPDATE rollups SET requests = requests + 1 WHERE kind = 'rejected'")
    hours = [found for found in await inspect(path.parent, path) if "hour" in found or "more" in found]
    assert len(hours) >= MOST_OF_A_KIND + 1
    assert any("more like these" in found for found in hours)


async def test_an_upgrade_is_advised_only_where_it_helps(path: Path) -> None:
    changed(path, "UPDATE alembic_version SET version_num = '0001'")
    assert await inspect(path.parent, path) == [
        f"the schema is 0001, not {HEAD}: `weighbridge db upgrade` brings it up to date"
    ]
    changed(path, "UPDATE alembic_version SET version_num = '9999'")
    assert await inspect(path.parent, path) == [f"the schema is 9999, not {HEAD}: a newer Weighbridge has written it"]


async def test_damage_is_found(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * 64)
    findings = await inspect(path.parent, path)
    assert findings
    assert all(found.startswith("integrity: ") for found in findings), findings


async def test_what_waits_in_the_spool_is_a_finding(path: Path) -> None:
    spool = path.parent / "spool"
    spool.mkdir()
    (spool / "records-00000001.jsonl").write_bytes(b"x" * 17)
    (spool / "damaged-00000003.jsonl").touch()
    assert await inspect(path.parent, path) == [
        "spool: 17 bytes of records wait for the database",
        "spool: damaged lines were set aside in damaged-00000003.jsonl",
    ]


def test_the_spools_of_workers_are_looked_at_and_files_that_go_meanwhile_are_no_fault(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "worker-1", tmp_path / "worker-2"):
        (folder / "spool").mkdir(parents=True)
    (tmp_path / "worker-2" / "spool" / "records-00000001.jsonl").write_bytes(b"x" * 17)
    (tmp_path / "worker-2" / "spool" / "damaged-00000003.jsonl").touch()
    (tmp_path / "spool" / "records-00000001.jsonl").symlink_to(tmp_path / "gone")
    assert list(spool_findings(tmp_path)) == [
        "worker-2/spool: 17 bytes of records wait for the database",
        "worker-2/spool: damaged lines were set aside in damaged-00000003.jsonl",
    ]


async def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert await inspect(tmp_path, tmp_path / DATABASE_NAME) == [f"there is no database {tmp_path / DATABASE_NAME}"]
    assert names(tmp_path) == []


async def test_a_sum_that_went_to_another_model_is_no_finding(tmp_path: Path) -> None:
    """Upstream's books name the model that served, when the hour and the day have been added up already."""
    samples = Samples()
    fields = {"outcome": "client_closed", "usage_source": "estimated", "generation_id": "gen-1", "model_served": None}
    called = [samples.settled(START, **fields), samples.settled(START + 1, **fields, client="bob")]
    unknown = samples.settled(START + 2, **{**fields, "usage_source": "none"}, input_tokens=None, cost_nanousd=None)
    async with open_store(tmp_path, now=lambda: NOW) as store:
        await settle(store.ledger, *called, unknown)
        await until(lambda: len(changed(tmp_path / DATABASE_NAME, "SELECT 1 FROM daily_rollups")) == 2)
        for record in called:
            store.ledger.amend(replace(record, usage_source=UsageSource.SETTLED, model_served="m", input_tokens=7))
        await settle(store.ledger, Samples(2).settled(START))
    for statement in (
        "SELECT client, requests, input_tokens FROM rollups ORDER BY 1, 2, 3",
        "SELECT client, requests, input_tokens FROM daily_rollups ORDER BY 1, 2, 3",
    ):
        rows = changed(tmp_path / DATABASE_NAME, statement)
        assert rows == [("alice", 1, None), ("alice", 1, 7), ("alice", 1, 1000), ("bob", 1, 7)]
    assert await inspect(tmp_path, tmp_path / DATABASE_NAME) == []
