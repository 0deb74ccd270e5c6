"""Which records a report is about."""

from typing import Any

import sqlalchemy as sa

from app.domain.records import DEMO_UPSTREAM, Book, Outcome
from app.gateway.usage_query import UsageQuery
from app.store.schema import rows
from app.store.schema.tables import IN_PROGRESS, records

Condition = sa.ColumnElement[bool]

model_of_record = sa.func.coalesce(
    sa.func.nullif(records.c.model_served, ""), sa.func.nullif(records.c.model_requested, "")
)
"""The one served, or else requested; NULL when neither is known."""


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
    return [*chosen, *of_book(query.book, upstream)]


def of_book(book: Book | None, upstream: sa.ColumnElement[Any]) -> list[Condition]:
    """The calls of one book, or of both."""
    if book is None:
        return []
    return [upstream == DEMO_UPSTREAM if book is Book.DEMO else upstream != DEMO_UPSTREAM]
