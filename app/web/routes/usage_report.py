"""Reports: the parameters of a query of the ledger, and rows of sums as JSON."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import InvalidRequest
from app.domain.money.amounts import format_usd
from app.domain.record_json import rfc3339
from app.domain.records import Book, Outcome
from app.domain.spans import parse_moment
from app.gateway.usage_query import Sort, UsageQuery

MOST_LINES = 1_000_000

_TIME_LENGTH = {"day": len("2026-11-22"), "hour": len("2026-11-22T10:00")}


class UsageParameters(BaseModel):
    """The parameters of a report. `request` is any id of one call.

    Without `book`, the report covers real or demo calls as the server runs; with `upstream` or `request`, both.
    """

    model_config = ConfigDict(extra="forbid")
    since: str | None = None
    until: str | None = None
    client: str | None = None
    model: str | None = None
    by: Literal["client", "model", "day", "hour", "request"] | None = None
    upstream: str | None = None
    book: Literal["real", "demo", "all"] | None = None
    request: Annotated[str, Field(min_length=1)] | None = None
    outcome: Outcome | None = None
    sort: Sort = Sort.GROUP
    limit: Annotated[int, Field(ge=1, le=MOST_LINES)] | None = None

    def query(self, now_us: int, own_book: Book) -> UsageQuery:
        """The query for the ledger. Raises InvalidRequest."""
        return UsageQuery(
            since=moment(self.since, now_us),
            until=moment(self.until, now_us),
            client=self.client,
            model=self.model,
            by=None if self.by == "request" else self.by,
            upstream=self.upstream,
            book=self._book(own_book),
            outcome=self.outcome,
            sort=self.sort,
            limit=self.limit,
        )

    def _book(self, own_book: Book) -> Book | None:
        if self.book is None:
            return own_book if self.upstream is None and self.request is None else None
        return None if self.book == "all" else Book(self.book)


def moment(text: str | None, now_us: int) -> int | None:
    """A time that the caller has typed, in microseconds UTC. Raises InvalidRequest."""
    if not text:
        return None
    try:
        return parse_moment(text, now_us)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def report_row(row: Mapping[str, Any], by: str | None = None) -> dict[str, Any]:
    """A row of sums as JSON: its group first, times as text, money as decimal dollars."""
    group: dict[str, Any] = {}
    if by is not None:
        value = row[by]
        group[by] = rfc3339(value)[: _TIME_LENGTH[by]] if by in _TIME_LENGTH else value
    sums = {name: value for name, value in row.items() if name not in (by, "cost_nanousd")}
    cost = row["cost_nanousd"]
    return {**group, **sums, "cost_usd": None if cost is None else format_usd(cost)}
