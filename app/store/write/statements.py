"""The statements that write, in SQLAlchemy Core. Callers pass the dialect's own `insert`; the rest is common."""

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from app.store.schema.rollups import DAY_MICROSECONDS, LARGEST_SUM
from app.store.schema.rows import AMENDED_COLUMNS, COLUMNS, SUMS
from app.store.schema.tables import IN_PROGRESS, NOT_TOLD, clients, days, groups, hours, progress, records
from app.store.write.backend import Condition, Insert

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

_ID = [records.c.request_id]
_COUNTS = ("requests", "unknown_usage", "unknown_cost")
_SUMS = COLUMNS[SUMS]
_INTERRUPTED = sa.literal_column("'interrupted'", sa.Text)


def put(insert: Insert) -> sa.ClauseElement:
    """Write a row, settled or of a call still open, in place of that of an open call. Parameters: all columns.

    A settled row stays: a later row with the same id changes nothing and counts as no change.
    """
    return onto_open(insert(records))


def onto_open(statement: "sqlite.Insert | postgresql.Insert") -> sa.ClauseElement:
    """The same for a statement that inserts into the records."""
    changes = {column.name: statement.excluded[column.name] for column in records.c if column not in set(_ID)}
    return statement.on_conflict_do_update(index_elements=_ID, set_=changes, where=records.c.outcome == IN_PROGRESS)


def roll_up(insert: Insert, table: sa.Table) -> sa.ClauseElement:
    """Add to the roll-ups in `hours` or `days`. Parameters: all columns."""
    statement = insert(table)
    limit = sa.literal_column(str(LARGEST_SUM), sa.BigInteger)
    changes: dict[str, sa.ColumnElement[int]] = {name: table.c[name] + statement.excluded[name] for name in _COUNTS}
    for name in _SUMS:
        before, added = table.c[name], statement.excluded[name]
        both = before + added
        changes[name] = sa.func.coalesce(sa.case((both > limit, limit), else_=both), before, added)
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes)


def tidy(table: sa.Table) -> tuple[sa.ClauseElement, sa.ClauseElement]:
    """Tidy a roll-up that a record has left for another. Parameters of both: its key, in order.

    Without requests it is deleted. A sum that no request has any more becomes NULL, not zero.
    """
    key = [column == sa.bindparam(f"its_{column.name}") for column in table.primary_key]
    nothing = sa.literal_column("0", sa.BigInteger)
    unknown = {name: table.c.unknown_cost if name == "cost_nanousd" else table.c.unknown_usage for name in _SUMS}
    changes = {
        name: sa.case((sa.and_(count == table.c.requests, table.c[name] == nothing), sa.null()), else_=table.c[name])
        for name, count in unknown.items()
    }
    return sa.delete(table).where(*key, table.c.requests == nothing), sa.update(table).where(*key).values(changes)


def first_unfolded() -> sa.ClauseElement:
    """The first hour that is in no day yet."""
    folded_until = sa.select(progress.c.folded_until).scalar_subquery()
    return sa.select(sa.func.min(hours.c.begins_at)).where(hours.c.begins_at >= folded_until)


def fold(day: int) -> tuple[sa.ClauseElement, sa.ClauseElement]:
    """Add up the hours of a day, and note that."""
    until = day + DAY_MICROSECONDS
    key = [hours.c.client, hours.c.model, hours.c.upstream, hours.c.kind]
    sums = [sa.func.sum(hours.c[name]) for name in (*_COUNTS, *_SUMS)]
    of_day = sa.select(sa.literal(day), *key, *sums).where(hours.c.begins_at >= day, hours.c.begins_at < until)
    added_up = sa.insert(days).from_select([column.name for column in days.c], of_day.group_by(*key))
    return added_up, sa.update(progress).values(folded_until=until)


def amendable() -> sa.Select[Any]:
    """The settled row of an id, locked, if its usage is still to be had from upstream's records. Parameter: the id."""
    waits = sa.and_(records.c.outcome != IN_PROGRESS, records.c.usage_source.in_(NOT_TOLD))
    return sa.select(records).where(records.c.request_id == sa.bindparam("id"), waits).with_for_update()


def amend() -> sa.Update:
    """Put what upstream's records say into a row. Parameters: the amended columns, then the id."""
    return _replace(AMENDED_COLUMNS)


def given_up() -> sa.Select[Any]:
    """The row of a call, locked, if close_interrupted() has closed it. Parameter: the id.

    A call that its process has closed as interrupted has a duration.
    """
    closed_for_it = sa.and_(
        records.c.outcome == _INTERRUPTED,
        records.c.finished_at == records.c.started_at,
        records.c.duration_ms.is_(None),
    )
    return sa.select(records).where(records.c.request_id == sa.bindparam("id"), closed_for_it).with_for_update()


def revive() -> sa.Update:
    """Replace a row by the settled one. Parameters: all columns but the id, then the id."""
    return _replace(COLUMNS[1:])


def _replace(columns: tuple[str, ...]) -> sa.Update:
    values: dict[str, sa.BindParameter[object]] = {name: sa.bindparam(f"new_{name}") for name in columns}
    return sa.update(records).where(records.c.request_id == sa.bindparam("id")).values(values)


def close_interrupted(calls: Condition) -> sa.ClauseElement:
    """Close these open calls, whose processes have ended. Gives the rows as they are then.

    The end of such a call is not known: `finished_at` becomes `started_at`, the last moment when its process was surely
    alive, and the duration stays unknown. (The time of the restart would make the outage the length of the call.)
    """
    closed = sa.update(records).where(records.c.outcome == IN_PROGRESS, calls)
    return closed.values(outcome=_INTERRUPTED, finished_at=records.c.started_at).returning(*records.c)


def folded_until() -> sa.ClauseElement:
    """How far days have been added up."""
    return sa.select(progress.c.folded_until)


def forget_before(hour: int) -> sa.ClauseElement:
    """Note that records from before this hour may be deleted."""
    return sa.update(progress).where(progress.c.kept_since < hour).values(kept_since=hour)


def delete_below(request_id: str, most: int) -> sa.ClauseElement:
    """Delete the oldest settled records with smaller ids, at most so many."""
    oldest = sa.select(records.c.request_id).where(records.c.request_id < request_id, records.c.outcome != IN_PROGRESS)
    return sa.delete(records).where(records.c.request_id.in_(oldest.order_by(records.c.request_id).limit(most)))


def add_client(insert: Insert, name: str, created_at: int, terms: str | None = None) -> sa.ClauseElement:
    """Write a client, unless it exists."""
    new = insert(clients).values(name=name, created_at=created_at, terms=terms)
    return new.on_conflict_do_nothing(index_elements=[clients.c.name])


def put_group(insert: Insert, name: str, created_at: int, terms: str) -> sa.ClauseElement:
    """Write a group, or new terms for an existing one."""
    new = insert(groups).values(name=name, created_at=created_at, terms=terms)
    return new.on_conflict_do_update(index_elements=[groups.c.name], set_={"terms": new.excluded.terms})
