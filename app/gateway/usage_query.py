"""The question that a report of the ledger answers."""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.records import Book, Outcome

MOST_SORTED = 10_000


class Sort(StrEnum):
    """The order of a report: by its groups or the time of its records, or by cost, the highest first."""

    GROUP = "group"
    COST = "cost"


@dataclass(slots=True, frozen=True)
class UsageQuery:
    """What a report is about. Times are microseconds UTC, `until` exclusive; `by` is a column, or None for totals.

    Without a `book` both are counted. `outcome` is searched in the records, which are kept for a limited time. With
    `limit`, a report by time has its newest lines, any other its first ones.
    """

    since: int | None = None
    until: int | None = None
    client: str | None = None
    model: str | None = None
    by: str | None = None  # client | model | day | hour
    bucket_offset: int = 0
    upstream: str | None = None
    book: Book | None = None
    outcome: Outcome | None = None
    sort: Sort = Sort.GROUP
    limit: int | None = None
