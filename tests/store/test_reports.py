"""Ids serve ranges of time: the search begins where the time begins."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from app.domain.identity.request_ids import RequestIds
from app.gateway.usage_query import UsageQuery
from app.store.query.reports import unsettled_statement
from app.store.query.totals import totals_statement
from app.store.schema.rows import id_floor
from app.store.schema.tables import records
from app.store.sqlite.backend import SqliteBackend
from app.store.sqlite.dialect import compiled
from app.store.write.ledger_database import LedgerDatabase
from tests.store.samples import make_database

times = st.integers(min_value=0, max_value=2**47)  # microseconds: until the year 6429


@given(times, times)
def test_the_floor_of_a_time_divides_the_ids(call: int, floor: int) -> None:
    request_id = RequestIds(0).next(call)
    if call >= floor:
        assert request_id >= id_floor(floor)
    if call // 1000 < floor // 1000:
        assert request_id < id_floor(floor)


def plan(database: LedgerDatabase, statement: sa.Select[Any]) -> str:
    query = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}).string
    return str(database.run([compiled(sa.text("EXPLAIN QUERY PLAN " + query))])[0].rows)


def test_nothing_is_read_that_is_not_asked_for(tmp_path: Path) -> None:
    database = LedgerDatabase(SqliteBackend(make_database(tmp_path)))
    since, until = 1_790_000_000_000_001, 1_793_000_000_000_000
    for by in (None, "client", "day", "hour"):
        for offset in (0, 1_800_000_000):
            found = plan(database, totals_statement(UsageQuery(since=since, until=until, by=by, bucket_offset=offset)))
            assert "SEARCH records USING PRIMARY KEY (request_id>? AND request_id<?)" in found
            assert "SEARCH rollups USING PRIMARY KEY (begins_at>? AND begins_at<?)" in found
            assert "USING INDEX records_in_progress" in found
            assert "SCAN records'" not in found
            assert "SCAN rollups" not in found
    assert "SEARCH daily_rollups USING PRIMARY KEY" in plan(database, totals_statement(UsageQuery(by="client")))
    assert "SEARCH records USING INDEX records_unsettled" in plan(database, unsettled_statement(since))
    page = sa.select(records).where(records.c.request_id > "a", records.c.request_id >= id_floor(1))
    assert "SEARCH records USING PRIMARY KEY" in plan(database, page)
    database.close()
