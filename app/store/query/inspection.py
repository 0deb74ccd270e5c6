"""Checks that the parts of a database agree, and that nothing waits in the spool."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from app.domain.record_json import rfc3339
from app.store.query.conditions import model_of_record, span
from app.store.query.totals import SUMS
from app.store.schema.rollups import DAY_MICROSECONDS, HOUR_MICROSECONDS, OTHER
from app.store.schema.tables import IN_PROGRESS, days, hours, progress, records
from app.store.spool.orphaned_spools import WORKERS
from app.store.spool.spool import SPOOL_NAME, spool_contents

MOST_OF_A_KIND = 10
"""How many findings of one kind are listed."""

_KEY = 5  # columns


class Look(Protocol):
    """Reads a database as it stands."""

    def rows(self, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """All rows of the answer."""

    def moment(self) -> contextlib.AbstractContextManager[object]:
        """Within it, all that is read is of one moment."""


def sum_findings(look: Look) -> list[str]:
    """Roll-ups that are not what they should add up to, a sentence each."""
    return [finding for kind in (_hour_findings, _day_findings) for finding in limited(kind(look))]


def spool_findings(state_dir: Path) -> Iterator[str]:
    """What waits in the spool, or could not be read from it; also in the spools of workers."""
    for folder in (state_dir, *sorted(state_dir.glob(WORKERS))):
        contents = spool_contents(folder)
        name = (folder / SPOOL_NAME).relative_to(state_dir)
        if contents.waiting_bytes:
            yield f"{name}: {contents.waiting_bytes} bytes of records wait for the database"
        if contents.damaged_files:
            yield f"{name}: damaged lines were set aside in {', '.join(contents.damaged_files)}"


def _hour_findings(look: Look) -> Iterator[str]:
    """Roll-ups of hours that are not what their records add up to, of all hours of which records are kept."""
    kept_since = one(look, sa.select(progress.c.kept_since)) or 0
    recounted = _recounted()
    for begin in _days_with_anything(look, kept_since):
        begins = sa.and_(hours.c.begins_at >= begin, hours.c.begins_at < begin + DAY_MICROSECONDS)
        kept = sa.and_(begins, hours.c.begins_at >= kept_since)
        of_day = [*span(begin, begin + DAY_MICROSECONDS), records.c.started_at >= kept_since]
        with look.moment():
            told = _by_key(look, sa.select(hours).where(kept))
            true = _by_key(look, recounted.where(*of_day))
        yield from _differences("an hour", told, true)


def _day_findings(look: Look) -> Iterator[str]:
    """Days that are not what their hours add up to."""
    day = hours.c.begins_at - hours.c.begins_at % DAY_MICROSECONDS
    key = [day, hours.c.client, hours.c.model, hours.c.upstream, hours.c.kind]
    sums = [sa.func.sum(column) for column in list(hours.c)[_KEY:]]
    until = sa.select(progress.c.folded_until).scalar_subquery()
    with look.moment():
        true = _by_key(look, sa.select(*key, *sums).where(hours.c.begins_at < until).group_by(*key))
        told = _by_key(look, sa.select(days))
    yield from _differences("a day", told, true)


def _recounted() -> sa.Select[Any]:
    outcome = records.c.outcome
    kind = sa.case((outcome.in_(["completed", "rejected"]), outcome), else_=OTHER)
    hour = records.c.started_at - records.c.started_at % HOUR_MICROSECONDS
    key = [hour, records.c.client, sa.func.coalesce(model_of_record, ""), records.c.upstream, kind]
    no_usage = sa.or_(records.c.input_tokens.is_(None), records.c.output_tokens.is_(None))
    counts = [
        sa.func.count(),
        sa.func.count().filter(outcome != "rejected", no_usage),
        sa.func.count().filter(outcome != "rejected", records.c.cost_nanousd.is_(None)),
    ]
    sums = [sa.func.sum(records.c[name]) for name in SUMS]
    return sa.select(*key, *counts, *sums).where(outcome != IN_PROGRESS).group_by(*key)


def _days_with_anything(look: Look, kept_since: int) -> range:
    """Their first microseconds, from the oldest of which there is a record or a roll-up to the newest."""
    by_age = sa.select(records.c.started_at).limit(1)
    ends = (
        one(look, sa.select(sa.func.min(hours.c.begins_at)).where(hours.c.begins_at >= kept_since)),
        one(look, sa.select(sa.func.max(hours.c.begins_at))),
        one(look, by_age.order_by(records.c.request_id)),
        one(look, by_age.order_by(records.c.request_id.desc())),
    )
    known = [end for end in ends if end is not None]
    if not known:
        return range(0)
    first = max(min(known), kept_since)
    return range(first - first % DAY_MICROSECONDS, max(known) + 1, DAY_MICROSECONDS)


def _differences(what: str, told: dict[Any, Any], true: dict[Any, Any]) -> Iterator[str]:
    for key in sorted(told.keys() | true.keys()):
        if not _same(told.get(key), true.get(key)):
            begins_at, client, model, upstream, kind = key
            where = f"{client}, {model or 'no model'}, {upstream}, {kind}"
            yield f"roll-ups: {what} differs from what it sums up: {rfc3339(begins_at)} {where}"


def _same(told: tuple[Any, ...] | None, true: tuple[Any, ...] | None) -> bool:
    """Zero equals NULL: a sum is zero after a call moved to another model."""
    if told is None or true is None:
        return told is true
    return [value or 0 for value in told] == [value or 0 for value in true]


def _by_key(look: Look, statement: sa.Select[Any]) -> dict[Any, Any]:
    return {row[:_KEY]: row[_KEY:] for row in look.rows(statement)}


def one(look: Look, statement: sa.Select[Any]) -> int | None:
    rows = look.rows(statement)
    return rows[0][0] if rows else None


def limited(findings: Iterator[str]) -> list[str]:
    """The first ten or so, and how many more."""
    found: list[str] = []
    more = 0
    for finding in findings:
        if len(found) < MOST_OF_A_KIND:
            found.append(finding)
        else:
            more += 1
    return [*found, f"{found[-1].partition(':')[0]}: {more} more like these"] if more else found
