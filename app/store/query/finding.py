"""Finds calls by an id: by our request id at once, by one of upstream's ids by reading back from the newest record.

Upstream's ids have no index, since each call would pay for it. A million records take 0.3 s (measured). Longer and
longer spans are read with one statement each: no snapshot is held for long, and recent calls are found in milliseconds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.identity.kept_ids import kept_id
from app.domain.records import Record
from app.gateway.usage_query import UsageQuery
from app.store.query.conditions import chosen_records, span
from app.store.query.reader import Reader
from app.store.schema.rollups import HOUR_MICROSECONDS
from app.store.schema.rows import id_floor, record_of
from app.store.schema.tables import records

MOST_FOUND = 200
"""Records of one id: a response that is read again and again has a record for each request."""

_GROWTH = 4  # each span is so many times longer than the one behind it


async def found(reader: Reader, id_: str, query: UsageQuery) -> Sequence[Record]:
    """The calls with this id within the query, oldest first. Only the newest span with such calls is read."""
    id_ = kept_id(id_) or ""
    if not id_ or "\0" in id_:  # PostgreSQL takes no NUL
        return []
    chosen = [*span(query.since, query.until), *chosen_records(query)]
    ours = await reader.rows(sa.select(records).where(records.c.request_id == id_, *chosen))
    if ours:
        return list(map(record_of, ours))
    named = sa.or_(
        records.c.response_id == id_,
        records.c.generation_id == id_,
        records.c.upstream_request_id == id_,
    )
    for part in _spans(await _ends(reader, chosen)):
        page = sa.select(records).where(named, *part, *chosen)
        rows = await reader.rows(page.order_by(records.c.request_id.desc()).limit(MOST_FOUND))
        if rows:
            return [record_of(row) for row in reversed(rows)]
    return []


async def _ends(reader: Reader, chosen: list[sa.ColumnElement[bool]]) -> tuple[int, int] | None:
    """When the oldest and the newest of these records began; None when there are none."""
    began = sa.select(records.c.started_at).where(*chosen).limit(1)
    ends = [await reader.rows(began.order_by(order)) for order in (records.c.request_id, records.c.request_id.desc())]
    return None if not ends[0] else (ends[0][0]["started_at"], ends[1][0]["started_at"])


def _spans(ends: tuple[int, int] | None) -> Iterator[list[sa.ColumnElement[bool]]]:
    """Conditions for spans of time, the newest first, that together hold everything between the ends."""
    if ends is None:
        return
    oldest, until = ends
    until += 1000  # ids know milliseconds
    width = HOUR_MICROSECONDS
    newest: list[sa.ColumnElement[Any]] = []  # without an upper bound
    while until > oldest:
        since = until - width
        yield [records.c.request_id >= id_floor(since), *newest]
        newest = [records.c.request_id < id_floor(since)]
        until = since
        width *= _GROWTH
