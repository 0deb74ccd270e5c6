"""The statements that write, as SQLAlchemy Core. A dialect's own `insert` is passed in; all else is common."""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.store.tables import IN_PROGRESS, clients, records

Insert = Callable[[sa.Table], sqlite.Insert]
"""`sqlite.insert`, or PostgreSQL's, which has the same methods."""

_ID = [records.c.request_id]


def settle(insert: Insert) -> sa.ClauseElement:
    """Write a settled record; in place of the row of its admission, if that came first. Parameters: all columns.

    What is settled stays: a second settlement of an id changes nothing.
    """
    statement = insert(records)
    changes = {column.name: statement.excluded[column.name] for column in records.c if column not in set(_ID)}
    return statement.on_conflict_do_update(index_elements=_ID, set_=changes, where=records.c.outcome == IN_PROGRESS)


def admit(insert: Insert) -> sa.ClauseElement:
    """Write the row of a call still open, unless the id has a row. Parameters: all columns."""
    return insert(records).on_conflict_do_nothing(index_elements=_ID)


def close_interrupted() -> sa.ClauseElement:
    """Close what a process that is no more left open.

    Its end is not known: `finished_at` becomes `started_at`, the last moment it was surely alive, and the duration
    stays unknown. (The time of the restart would show the length of the outage as the length of the call.)
    """
    interrupted = sa.literal_column("'interrupted'", sa.Text)
    return (
        sa.update(records)
        .where(records.c.outcome == IN_PROGRESS)
        .values(outcome=interrupted, finished_at=records.c.started_at)
    )


def add_client(insert: Insert, name: str, created_at: int) -> sa.ClauseElement:
    """Write a client, unless it is there."""
    new = insert(clients).values(name=name, created_at=created_at)
    return new.on_conflict_do_nothing(index_elements=[clients.c.name])
