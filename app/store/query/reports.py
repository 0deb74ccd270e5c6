"""Reports: the ledger added up, and the records themselves."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.records import NOTHING_TO_TELL, Record
from app.gateway.usage_query import MOST_SORTED, Sort, UsageQuery
from app.store.query.conditions import chosen_records, span
from app.store.query.finding import found
from app.store.query.reader import Reader
from app.store.query.totals import SUMS, totals_of
from app.store.schema.rows import id_floor, record_of
from app.store.schema.tables import IN_PROGRESS, NOT_TOLD, RECONCILABLE, records

MOST_HELD = 10_000
"""The most held calls that are listed at once."""

PAGE_ROWS = 200
"""A page of these takes 5 ms of the loop's time, so that an export does not disturb streams."""


class SqlReports:
    """The gateway's Reports, and its UnsettledReports.

    `model` means the model served or, where none is known, the one requested.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def totals(self, query: UsageQuery) -> Sequence[Mapping[str, Any]]:
        """One mapping a group, ordered by group; without `by`, one in all.

        Keys: the name in `query.by` (client and model as text, the model may be None; day and hour as the microsecond
        UTC in which they begin, shifted by `bucket_offset` microseconds east), `requests`, the seven SUMS over what is
        known (None when of no request it is), `completed`, `rejected`, `in_progress` and `other` (requests by outcome),
        `unknown_usage` and `unknown_cost` (requests that ended, were not rejected, and are missing in the sums).
        Exact to the microsecond while records are kept, and to the hour for what is older.
        Raises ValueError for another `by`.
        """
        statement, values = totals_of(query)
        return _cut([_with_rest(row) for row in await self._reader.rows(statement, values)], query)

    async def records(self, query: UsageQuery) -> AsyncIterator[Record]:
        """The records, newest last, read page by page: memory stays small, and no lock is held between pages.

        Sorted by cost they are read at once, at most MOST_SORTED.
        """
        chosen = [*span(query.since, query.until), *chosen_records(query)]
        if query.sort is Sort.COST:
            for row in await self._reader.rows(_dearest(chosen, query.limit)):
                yield record_of(row)
            return
        if query.limit is not None:
            chosen += await self._newest(chosen, query.limit)
        after = ""
        while True:
            page = sa.select(records).where(*chosen, records.c.request_id > after)
            rows = await self._reader.rows(page.order_by(records.c.request_id).limit(PAGE_ROWS))
            for row in rows:
                yield record_of(row)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1]["request_id"]

    async def find(self, id_: str, query: UsageQuery) -> Sequence[Record]:
        """The calls with this id (see app.store.query.finding)."""
        return await found(self._reader, id_, query)

    async def _newest(self, chosen: list[sa.ColumnElement[bool]], count: int) -> list[sa.ColumnElement[bool]]:
        """A condition that leaves the newest `count` records; none when there are no more than that."""
        ids = sa.select(records.c.request_id).where(*chosen).order_by(records.c.request_id.desc())
        found = await self._reader.rows(ids.limit(1).offset(count - 1))
        return [records.c.request_id >= row["request_id"] for row in found]

    async def unsettled(self, since: int, most: int = PAGE_ROWS) -> Sequence[Record]:
        """Calls begun since then whose usage only upstream's records can tell, oldest first, at most so many.

        They have a generation id, or a response in the background, and no usage, or only an estimate.
        """
        statement = unsettled_statement(since).order_by(records.c.request_id).limit(most)
        return [record_of(row) for row in await self._reader.rows(statement)]

    async def held(self, client: str | None = None) -> Sequence[Record]:
        """Calls that are over and count by their worst case, oldest first; the newest MOST_HELD of them."""
        chosen = [records.c.held.is_not(None), records.c.outcome != IN_PROGRESS]
        if client is not None:
            chosen.append(records.c.client == client)
        statement = sa.select(records).where(*chosen).order_by(records.c.request_id.desc()).limit(MOST_HELD)
        return [record_of(row) for row in reversed(await self._reader.rows(statement))]

    async def record(self, request_id: str) -> Record | None:
        """The record of a call, if there is one."""
        rows = await self._reader.rows(sa.select(records).where(records.c.request_id == request_id))
        return record_of(rows[0]) if rows else None


def unsettled_statement(since: int) -> sa.Select[Any]:
    """What `SqlReports.unsettled` reads, without order and limit."""
    return sa.select(records).where(
        records.c.usage_source.in_(NOT_TOLD),
        RECONCILABLE,
        sa.or_(records.c.generation_id.is_not(None), records.c.response_id.is_not(None)),
        records.c.request_id >= id_floor(since),
        records.c.started_at >= since,
        records.c.outcome.not_in([str(outcome) for outcome in sorted(NOTHING_TO_TELL)]),
    )


def _dearest(chosen: list[sa.ColumnElement[bool]], limit: int | None) -> sa.Select[Any]:
    most = MOST_SORTED if limit is None else min(limit, MOST_SORTED)
    order = (records.c.cost_nanousd.desc().nulls_last(), records.c.request_id)
    return sa.select(records).where(*chosen).order_by(*order).limit(most)


def _cut(rows: list[dict[str, Any]], query: UsageQuery) -> list[dict[str, Any]]:
    """The rows in the order asked for, and no more than asked for."""
    if query.sort is Sort.COST:
        rows.sort(key=lambda row: -1 if row["cost_nanousd"] is None else row["cost_nanousd"], reverse=True)
    if query.limit is None:
        return rows
    newest = query.by in {"day", "hour"} and query.sort is not Sort.COST
    return rows[-query.limit :] if newest else rows[: query.limit]


def _with_rest(row: dict[str, Any]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for name, value in row.items():
        totals[name] = value
        if name == "in_progress":  # the last of those that add up to requests
            totals["other"] = row["requests"] - row["completed"] - row["rejected"] - row["in_progress"]
    if not row["requests"]:
        totals.update(dict.fromkeys(SUMS, 0))  # the sum of nothing is known
    return totals
