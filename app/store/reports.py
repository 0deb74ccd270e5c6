"""Reports: the ledger added up, and the records themselves."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.records import NOTHING_TO_TELL, Record
from app.gateway.ports import UsageQuery
from app.store.reader import Reader
from app.store.rows import id_floor, record_of
from app.store.tables import HAS_BOOKS, NOT_TOLD, records
from app.store.totals import SUMS, model_of_record, span, totals_statement

PAGE_ROWS = 200
"""Makes a page 5 ms of the loop's time; the streams it carries must not notice an export."""


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
        return [_with_rest(row) for row in await self._reader.rows(totals_statement(query))]

    async def records(self, query: UsageQuery) -> AsyncIterator[Record]:
        """The records, newest last, read page by page: however many, memory stays small and no lock is held between."""
        after = ""
        while True:
            page = sa.select(records).where(*_conditions(query), records.c.request_id > after)
            rows = await self._reader.rows(page.order_by(records.c.request_id).limit(PAGE_ROWS))
            for row in rows:
                yield record_of(row)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1]["request_id"]

    async def unsettled(self, since: int, most: int = PAGE_ROWS) -> Sequence[Record]:
        """Calls begun since then whose usage only upstream's books can tell, oldest first, at most so many.

        Upstream had given them a generation id, or a response in the background, and no usage came of them; what the
        ledger has is an estimate, if that.
        """
        statement = unsettled_statement(since).order_by(records.c.request_id).limit(most)
        return [record_of(row) for row in await self._reader.rows(statement)]


def unsettled_statement(since: int) -> sa.Select[Any]:
    """What `SqlReports.unsettled` reads, without order and limit."""
    return sa.select(records).where(
        records.c.usage_source.in_(NOT_TOLD),
        HAS_BOOKS,
        sa.or_(records.c.generation_id.is_not(None), records.c.response_id.is_not(None)),
        records.c.request_id >= id_floor(since),
        records.c.started_at >= since,
        records.c.outcome.not_in([str(outcome) for outcome in sorted(NOTHING_TO_TELL)]),
    )


def _conditions(query: UsageQuery) -> list[sa.ColumnElement[bool]]:
    conditions = span(query.since, query.until)
    if query.client is not None:
        conditions.append(records.c.client == query.client)
    if query.model is not None:
        conditions.append(model_of_record == query.model)
    if query.upstream is not None:
        conditions.append(records.c.upstream == query.upstream)
    return conditions


def _with_rest(row: dict[str, Any]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for name, value in row.items():
        totals[name] = value
        if name == "in_progress":  # the last of those that add up to requests
            totals["other"] = row["requests"] - row["completed"] - row["rejected"] - row["in_progress"]
    if not row["requests"]:
        totals.update(dict.fromkeys(SUMS, 0))  # of nothing, the sum is known
    return totals
