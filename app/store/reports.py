"""Reports: the ledger added up, and the records themselves.

Both read the records table: 1 us a record for totals, so a day is quick and a million records take a second or two.
Hourly roll-ups will stand between `totals` and the table.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.domain.records import Outcome, Record
from app.gateway.ports import UsageQuery
from app.store.reader import Reader
from app.store.rows import record_of
from app.store.tables import records

PAGE_ROWS = 200
"""Makes a page 5 ms of the loop's time; the streams it carries must not notice an export."""

SUMS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_nanousd",
)

_BUCKET_MICROSECONDS = {"hour": 3_600_000_000, "day": 86_400_000_000}
_model = sa.func.coalesce(records.c.model_served, records.c.model_requested)


class SqlReports:
    """The gateway's Reports port. `model` means the model served or, where none is known, the one requested."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def totals(self, query: UsageQuery) -> Sequence[Mapping[str, Any]]:
        """One mapping a group, ordered by group; without `by`, one in all.

        Keys: the name in `query.by` (client and model as text, the model may be None; day and hour as the microsecond
        UTC in which they begin, shifted by `bucket_offset` microseconds east), `requests`, the seven SUMS over what is
        known (None when of no request it is), `completed`, `rejected`, `in_progress` and `other` (requests by outcome),
        `unknown_usage` and `unknown_cost` (requests that ended, were not rejected, and are missing in the sums).
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


def totals_statement(query: UsageQuery) -> sa.Select[Any]:
    """The statement of a report. Raises ValueError when `query.by` is no column of it."""
    outcome = records.c.outcome
    not_weighed = [str(Outcome.REJECTED), str(Outcome.IN_PROGRESS)]
    ended = outcome.not_in(not_weighed)
    unknown = sa.or_(records.c.input_tokens.is_(None), records.c.output_tokens.is_(None))
    count = sa.func.count()
    columns: list[sa.ColumnElement[Any]] = [
        count.label("requests"),
        *(sa.func.sum(records.c[name]).label(name) for name in SUMS),
        *(count.filter(outcome == name).label(name) for name in ("completed", *not_weighed)),
        count.filter(ended, unknown).label("unknown_usage"),
        count.filter(ended, records.c.cost_nanousd.is_(None)).label("unknown_cost"),
    ]
    if query.by is None:
        return sa.select(*columns).where(*_conditions(query))
    group = _group(query.by, query.bucket_offset).label(query.by)
    statement = sa.select(group, *columns).where(*_conditions(query))
    return statement.group_by(sa.text(query.by)).order_by(sa.text(query.by))


def id_floor(microseconds: int) -> str:
    """No call that began at or after this time has a smaller id, and none of an earlier millisecond a greater one."""
    return f"req_{max(microseconds, 0) // 1000:012x}"


def _group(by: str, offset: int) -> sa.ColumnElement[Any]:
    if by == "client":
        return records.c.client
    if by == "model":
        return _model
    width = _BUCKET_MICROSECONDS.get(by)
    if width is None:
        raise ValueError(f"usage cannot be grouped by {by!r}: use client, model, day or hour")
    return (records.c.started_at + offset) // width * width - offset


def _conditions(query: UsageQuery) -> list[sa.ColumnElement[bool]]:
    """The ids narrow the search, since they are the table's order; the exact bounds are those of `started_at`."""
    conditions: list[sa.ColumnElement[bool]] = []
    if query.since is not None:
        conditions += [records.c.request_id >= id_floor(query.since), records.c.started_at >= query.since]
    if query.until is not None:
        conditions += [records.c.request_id < id_floor(query.until + 1000), records.c.started_at < query.until]
    if query.client is not None:
        conditions.append(records.c.client == query.client)
    if query.model is not None:
        conditions.append(_model == query.model)
    return conditions


def _with_rest(row: dict[str, Any]) -> dict[str, Any]:
    totals = dict(row)
    totals["other"] = row["requests"] - row["completed"] - row["rejected"] - row["in_progress"]
    if not row["requests"]:
        totals.update(dict.fromkeys(SUMS, 0))  # of nothing, the sum is known
    return totals
