"""Ids serve ranges of time: the search begins where the time begins."""

from pathlib import Path

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from app.domain.request_ids import RequestIds
from app.gateway.ports import UsageQuery
from app.store.database import Database, compiled
from app.store.reports import id_floor, totals_statement
from app.store.tables import records
from tests.store.samples import make_database

times = st.integers(min_value=0, max_value=2**47)  # microseconds: until the year 6429


@given(times, times)
def test_the_floor_of_a_time_divides_the_ids(call: int, floor: int) -> None:
    request_id = RequestIds(0).next(call)
    if call >= floor:
        assert request_id >= id_floor(floor)
    if call // 1000 < floor // 1000:
        assert request_id < id_floor(floor)


def test_a_span_of_time_is_a_range_of_the_primary_key(tmp_path: Path) -> None:
    database = Database.open(make_database(tmp_path))
    for statement in (
        totals_statement(UsageQuery(since=1, until=2)),
        sa.select(records).where(records.c.request_id > "a", records.c.request_id >= id_floor(1)),
    ):
        query = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}).string
        plan = database.run([compiled(sa.text("EXPLAIN QUERY PLAN " + query))])[0].rows
        assert "SEARCH records USING PRIMARY KEY" in str(plan)
    database.close()
