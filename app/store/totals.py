"""The statement of a report: whole days and hours from the roll-ups, the rest of an hour at an end from the records.

          since                                                                   until
    | hour  :  hour | hour | ... | day | day | day | ... | hour | hour | hour | hour  :  hour |
            :records|--- hours --|------ days -----|----------- hours --------|records:
                                                   ^ days are added up until here

Calls still open are in no roll-up and are found by their index. Of hours whose records are no longer kept there are
only roll-ups: there, a bound within an hour takes in the whole hour. Roll-ups know three kinds of outcome only, so a
report of one outcome is made of the records alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from app.domain.records import DEMO_UPSTREAM, Book, Outcome
from app.gateway.usage_query import UsageQuery
from app.store import rows
from app.store.extremes import Greatest, Least
from app.store.rollups import DAY_MICROSECONDS, HOUR_MICROSECONDS, hour_of
from app.store.tables import IN_PROGRESS, days, hours, progress, records

SUMS = rows.COLUMNS[rows.SUMS]

_COUNTS = ("requests", "completed", "rejected", "in_progress", "unknown_usage", "unknown_cost")
_COMPLETED, _REJECTED = str(Outcome.COMPLETED), str(Outcome.REJECTED)
_WIDTHS = {"hour": HOUR_MICROSECONDS, "day": DAY_MICROSECONDS}
_END_OF_TIME = DAY_MICROSECONDS * 3_000_000  # the year 10183: later ones do not fit into an id
_KEPT_SINCE = sa.select(progress.c.kept_since).scalar_subquery()
_FOLDED_UNTIL = sa.select(progress.c.folded_until).scalar_subquery()

Condition = sa.ColumnElement[bool]
Moment = int | sa.ColumnElement[int]
Bounds = tuple[int, int]
"""From (inclusive) until (exclusive), microseconds UTC."""

model_of_record = sa.func.coalesce(
    sa.func.nullif(records.c.model_served, ""), sa.func.nullif(records.c.model_requested, "")
)
"""The one served, or else requested; NULL when neither is known."""


def totals_statement(query: UsageQuery) -> sa.Select[Any]:
    """The statement of a report. Raises ValueError when `query.by` is no column of it."""
    since, until = query.since or 0, _END_OF_TIME if query.until is None else query.until
    if since >= until:
        since, until = 0, 0
    query = replace(query, since=since, until=until)
    parts = sa.union_all(*_parts(query)).subquery()
    columns = [
        *(sa.func.coalesce(sa.func.sum(parts.c[name]), 0).label(name) for name in _COUNTS),
        *(sa.func.sum(parts.c[name]).label(name) for name in SUMS),
    ]
    if query.by is None:
        return sa.select(*columns)
    group = parts.c.part_of.label(query.by)
    return sa.select(group, *columns).group_by(group).order_by(group.nulls_first())


def span(since: int | None, until: int | None) -> list[Condition]:
    """The records that began between the bounds. Ids narrow the search, since they are the table's order."""
    conditions: list[Condition] = []
    if since is not None:
        conditions += [records.c.request_id >= rows.id_floor(since), records.c.started_at >= since]
    if until is not None:
        conditions += [records.c.request_id < rows.id_floor(until + 1000), records.c.started_at < until]
    return conditions


def chosen_records(query: UsageQuery) -> list[Condition]:
    """The records of a report, whenever they began."""
    wanted = _chosen(query, records.c.client, model_of_record, records.c.upstream)
    if query.outcome is Outcome.IN_PROGRESS:
        wanted.append(records.c.outcome == IN_PROGRESS)
    elif query.outcome is not None:
        wanted.append(records.c.outcome == str(query.outcome))
    return wanted


def _chosen(
    query: UsageQuery, client: sa.ColumnElement[Any], model: sa.ColumnElement[Any], upstream: sa.ColumnElement[Any]
) -> list[Condition]:
    chosen: list[Condition] = []
    if query.client is not None:
        chosen.append(client == query.client)
    if query.model is not None:
        chosen.append(model == query.model)
    if query.upstream is not None:
        chosen.append(upstream == query.upstream)
    if query.book is not None:
        chosen.append((upstream == DEMO_UPSTREAM) if query.book is Book.DEMO else (upstream != DEMO_UPSTREAM))
    return chosen


def _parts(query: UsageQuery) -> Iterator[sa.Select[Any]]:
    """Each is added up by itself: to hand its rows on one by one would cost more than to read them."""
    since, until = query.since or 0, query.until or 0
    if query.outcome is not None:
        yield _of_records(query, span(since, until))
        return
    width = _resolution(query)
    first, last = _up(since, width), max(_up(since, width), until - until % width)
    if width == DAY_MICROSECONDS:
        # One bound a side: of two, the planner may search by the one that leaves it more to read.
        folded = Greatest(first, Least(last, _FOLDED_UNTIL))
        yield _of_rollups(query, days, first, folded)
        yield _of_rollups(query, hours, _up(since, HOUR_MICROSECONDS), min(first, hour_of(until)))
        yield _of_rollups(query, hours, folded, hour_of(until))
    elif width == HOUR_MICROSECONDS:
        yield _of_rollups(query, hours, first, last)
    for bounds in _ends(since, until, min(width, HOUR_MICROSECONDS)):
        yield _of_records(
            query, [*span(*bounds), records.c.started_at >= _KEPT_SINCE, records.c.outcome != IN_PROGRESS]
        )
        gone = Least(_KEPT_SINCE, _up(bounds[1], HOUR_MICROSECONDS))
        yield _of_rollups(query, hours, hour_of(bounds[0]), gone)
    # No bounds of ids here: they would lead the planner away from the index, to all records of the span.
    began = records.c.started_at.between(since, until - 1)
    yield _of_records(query, [records.c.outcome == IN_PROGRESS, began])


def _resolution(query: UsageQuery) -> int:
    """The longest span of roll-ups of which each lies in one group. 1: by the clock of a place half an hour off."""
    if query.by not in _WIDTHS:
        return DAY_MICROSECONDS
    return next(
        (width for width in (_WIDTHS[query.by], HOUR_MICROSECONDS) if query.bucket_offset % width == 0),
        1,
    )


def _ends(since: int, until: int, width: int) -> Sequence[Bounds]:
    """The spans of time that roll-ups of an hour cannot serve; with a width of 1, all of it."""
    if width == 1 or hour_of(since) == hour_of(until):
        return [(since, until)]
    ends = [(since, _up(since, width)), (until - until % width, until)]
    return [bounds for bounds in ends if bounds[0] < bounds[1]]


def _of_rollups(query: UsageQuery, table: sa.Table, since: Moment, until: Moment) -> sa.Select[Any]:
    begins_at, kind, requests = table.c.begins_at, table.c.kind, table.c.requests
    chosen = [begins_at >= since, begins_at < until, *_chosen(query, table.c.client, table.c.model, table.c.upstream)]
    counts = {
        "requests": requests,
        "completed": sa.case((kind == _COMPLETED, requests), else_=0),
        "rejected": sa.case((kind == _REJECTED, requests), else_=0),
        "in_progress": sa.literal_column("0"),
        "unknown_usage": table.c.unknown_usage,
        "unknown_cost": table.c.unknown_cost,
    }
    told = {name: table.c[name] for name in SUMS}
    return _added_up(query, (begins_at, table.c.client, sa.func.nullif(table.c.model, "")), counts, told, chosen)


def _of_records(query: UsageQuery, conditions: list[Condition]) -> sa.Select[Any]:
    """Open calls are counted only: what one says of its tokens is what is set aside for it."""
    chosen = [*conditions, *chosen_records(query)]
    outcome = records.c.outcome
    ended = outcome.not_in([_REJECTED, str(Outcome.IN_PROGRESS)])
    no_usage = sa.or_(records.c.input_tokens.is_(None), records.c.output_tokens.is_(None))
    counts = {
        "requests": sa.literal_column("1"),
        "completed": _one_if(outcome == _COMPLETED),
        "rejected": _one_if(outcome == _REJECTED),
        "in_progress": _one_if(outcome == IN_PROGRESS),
        "unknown_usage": _one_if(sa.and_(ended, no_usage)),
        "unknown_cost": _one_if(sa.and_(ended, records.c.cost_nanousd.is_(None))),
    }
    told = {name: sa.case((outcome != IN_PROGRESS, records.c[name])) for name in SUMS}
    return _added_up(query, (records.c.started_at, records.c.client, model_of_record), counts, told, chosen)


def _one_if(condition: Condition) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _added_up(
    query: UsageQuery,
    at_client_model: tuple[sa.ColumnElement[Any], sa.ColumnElement[Any], sa.ColumnElement[Any]],
    counts: dict[str, sa.ColumnElement[Any]],
    told: Mapping[str, sa.ColumnElement[Any]],
    conditions: list[Condition],
) -> sa.Select[Any]:
    sums = [sa.func.sum(counts[name]).label(name) for name in _COUNTS]
    sums += [sa.func.sum(told[name]).label(name) for name in SUMS]
    if query.by is None:
        return sa.select(*sums).where(*conditions)
    group = _group(query, *at_client_model).label("part_of")
    return sa.select(group, *sums).where(*conditions).group_by(group)


def _group(
    query: UsageQuery, at: sa.ColumnElement[Any], client: sa.ColumnElement[Any], model: sa.ColumnElement[Any]
) -> sa.ColumnElement[Any]:
    if query.by in {"client", "model"}:
        return client if query.by == "client" else model
    width = _WIDTHS.get(query.by or "")
    if width is None:
        raise ValueError(f"usage cannot be grouped by {query.by!r}: use client, model, day or hour")
    return (at + query.bucket_offset) // width * width - query.bucket_offset


def _up(microseconds: int, width: int) -> int:
    """The first beginning of such a span of time at or after this."""
    return -(-microseconds // width) * width
