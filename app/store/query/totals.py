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
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.domain.records import Book, Outcome
from app.gateway.usage_query import UsageQuery
from app.store.query.conditions import Condition, model_of_record, of_book
from app.store.schema import rows
from app.store.schema.extremes import Greatest, Least
from app.store.schema.rollups import DAY_MICROSECONDS, HOUR_MICROSECONDS, hour_of
from app.store.schema.tables import IN_PROGRESS, days, hours, progress, records

SUMS = rows.COLUMNS[rows.SUMS]

_COUNTS = ("requests", "completed", "rejected", "in_progress", "unknown_usage", "unknown_cost")
_COMPLETED, _REJECTED = str(Outcome.COMPLETED), str(Outcome.REJECTED)
_WIDTHS = {"hour": HOUR_MICROSECONDS, "day": DAY_MICROSECONDS}
_END_OF_TIME = DAY_MICROSECONDS * 3_000_000  # the year 10183: later ones do not fit into an id
_KEPT_SINCE = sa.select(progress.c.kept_since).scalar_subquery()
_FOLDED_UNTIL = sa.select(progress.c.folded_until).scalar_subquery()

Moment = sa.ColumnElement[int]
Bounds = tuple[int, int]
"""From (inclusive) until (exclusive), microseconds UTC."""


class Totals(NamedTuple):
    """A report: its statement, and the values for it.

    Statements are made once for each kind of report: to make one and to put it into SQL takes 20 ms.
    """

    statement: sa.Select[Any]
    values: Mapping[str, Any]


def totals_of(query: UsageQuery) -> Totals:
    """The report of a query. Raises ValueError when `query.by` is no column of it."""
    since, until = query.since or 0, _END_OF_TIME if query.until is None else query.until
    if since >= until:
        since, until = 0, 0
    width = _resolution(query)
    ends = _ends(since, until, min(width, HOUR_MICROSECONDS))
    values = {
        **_bounds(since, until, width),
        "last_us": until - 1,
        "offset": query.bucket_offset,
        "client": query.client,
        "model": query.model,
        "upstream": query.upstream,
        "outcome": None if query.outcome is None else str(query.outcome),
        **_span_values("all", (since, until)),
    }
    for place, bounds in enumerate(ends):
        values |= _span_values(f"end{place}", bounds)
    wanted = (query.client is not None, query.model is not None, query.upstream is not None, query.outcome is not None)
    return Totals(_statement(_Kind(query.by, width, len(ends), query.book, *wanted)), values)


def totals_statement(query: UsageQuery) -> sa.Select[Any]:
    """The statement with its values in it. Raises ValueError."""
    statement, values = totals_of(query)
    return statement.params(values)


class _Kind(NamedTuple):
    """What the statement of a report depends on; all else are values."""

    by: str | None
    width: int
    ends: int  # the spans of time at which records are read
    book: Book | None
    client: bool  # only one, as the rest
    model: bool
    upstream: bool
    outcome: bool


@lru_cache(maxsize=256)
def _statement(kind: _Kind) -> sa.Select[Any]:
    parts = sa.union_all(*_parts(kind)).subquery()
    columns = [
        *(sa.func.coalesce(sa.func.sum(parts.c[name]), 0).label(name) for name in _COUNTS),
        *(sa.func.sum(parts.c[name]).label(name) for name in SUMS),
    ]
    if kind.by is None:
        return sa.select(*columns)
    group = parts.c.part_of.label(kind.by)
    return sa.select(group, *columns).group_by(group).order_by(group.nulls_first())


def _bounds(since: int, until: int, width: int) -> dict[str, int]:
    first = _up(since, width)
    return {
        "first": first,
        "last": max(first, until - until % width),
        "first_hour": _up(since, HOUR_MICROSECONDS),
        "before_first": min(first, hour_of(until)),
        "last_hour": hour_of(until),
    }


def _span_values(name: str, bounds: Bounds) -> dict[str, Any]:
    since, until = bounds
    return {
        f"{name}_since": since,
        f"{name}_until": until,
        f"{name}_floor": rows.id_floor(since),
        f"{name}_ceiling": rows.id_floor(until + 1000),
        f"{name}_hour": hour_of(since),
        f"{name}_gone": _up(until, HOUR_MICROSECONDS),
    }


def _moment(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, None, sa.BigInteger)


def _text(name: str) -> sa.BindParameter[str]:
    return sa.bindparam(name, None, sa.Text)


def _kind_chosen(
    kind: _Kind, client: sa.ColumnElement[Any], model: sa.ColumnElement[Any], upstream: sa.ColumnElement[Any]
) -> list[Condition]:
    columns = {"client": client, "model": model, "upstream": upstream}
    chosen = [column == _text(name) for name, column in columns.items() if getattr(kind, name)]
    return [*chosen, *of_book(kind.book, upstream)]


def _parts(kind: _Kind) -> Iterator[sa.Select[Any]]:
    """Each is added up by itself: to hand its rows on one by one would cost more than to read them."""
    if kind.outcome:
        yield _of_records(kind, [*_span("all"), records.c.outcome == _text("outcome")])
        return
    if kind.width == DAY_MICROSECONDS:
        # One bound a side: of two, the planner may search by the one that leaves it more to read.
        folded = Greatest(_moment("first"), Least(_moment("last"), _FOLDED_UNTIL))
        yield _of_rollups(kind, days, _moment("first"), folded)
        yield _of_rollups(kind, hours, _moment("first_hour"), _moment("before_first"))
        yield _of_rollups(kind, hours, folded, _moment("last_hour"))
    elif kind.width == HOUR_MICROSECONDS:
        yield _of_rollups(kind, hours, _moment("first"), _moment("last"))
    for name in (f"end{place}" for place in range(kind.ends)):
        kept = [*_span(name), records.c.started_at >= _KEPT_SINCE, records.c.outcome != IN_PROGRESS]
        yield _of_records(kind, kept)
        yield _of_rollups(kind, hours, _moment(f"{name}_hour"), Least(_KEPT_SINCE, _moment(f"{name}_gone")))
    # No bounds of ids here: they would lead the planner away from the index, to all records of the span.
    began = records.c.started_at.between(_moment("all_since"), _moment("last_us"))
    yield _of_records(kind, [records.c.outcome == IN_PROGRESS, began])


def _span(name: str) -> list[Condition]:
    ids, began = records.c.request_id, records.c.started_at
    bounds = [ids >= _text(f"{name}_floor"), began >= _moment(f"{name}_since")]
    return [*bounds, ids < _text(f"{name}_ceiling"), began < _moment(f"{name}_until")]


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


def _of_rollups(kind: _Kind, table: sa.Table, since: Moment, until: Moment) -> sa.Select[Any]:
    begins_at, ended, requests = table.c.begins_at, table.c.kind, table.c.requests
    ours = _kind_chosen(kind, table.c.client, table.c.model, table.c.upstream)
    chosen = [begins_at >= since, begins_at < until, *ours]
    counts = {
        "requests": requests,
        "completed": sa.case((ended == _COMPLETED, requests), else_=0),
        "rejected": sa.case((ended == _REJECTED, requests), else_=0),
        "in_progress": sa.literal_column("0"),
        "unknown_usage": table.c.unknown_usage,
        "unknown_cost": table.c.unknown_cost,
    }
    told = {name: table.c[name] for name in SUMS}
    return _added_up(kind, (begins_at, table.c.client, sa.func.nullif(table.c.model, "")), counts, told, chosen)


def _of_records(kind: _Kind, conditions: list[Condition]) -> sa.Select[Any]:
    """Open calls are counted only: what one says of its tokens is what is set aside for it."""
    chosen = [*conditions, *_kind_chosen(kind, records.c.client, model_of_record, records.c.upstream)]
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
    return _added_up(kind, (records.c.started_at, records.c.client, model_of_record), counts, told, chosen)


def _one_if(condition: Condition) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _added_up(
    kind: _Kind,
    at_client_model: tuple[sa.ColumnElement[Any], sa.ColumnElement[Any], sa.ColumnElement[Any]],
    counts: dict[str, sa.ColumnElement[Any]],
    told: Mapping[str, sa.ColumnElement[Any]],
    conditions: list[Condition],
) -> sa.Select[Any]:
    sums = [sa.func.sum(counts[name]).label(name) for name in _COUNTS]
    sums += [sa.func.sum(told[name]).label(name) for name in SUMS]
    if kind.by is None:
        return sa.select(*sums).where(*conditions)
    group = _group(kind, *at_client_model).label("part_of")
    return sa.select(group, *sums).where(*conditions).group_by(group)


def _group(
    kind: _Kind, at: sa.ColumnElement[Any], client: sa.ColumnElement[Any], model: sa.ColumnElement[Any]
) -> sa.ColumnElement[Any]:
    if kind.by in {"client", "model"}:
        return client if kind.by == "client" else model
    width = _WIDTHS.get(kind.by or "")
    if width is None:
        raise ValueError(f"usage cannot be grouped by {kind.by!r}: use client, model, day or hour")
    offset = _moment("offset")
    return (at + offset) // width * width - offset


def _up(microseconds: int, width: int) -> int:
    """The first beginning of such a span of time at or after this."""
    return -(-microseconds // width) * width
