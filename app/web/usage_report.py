"""Reports as JSON: what a row of sums looks like, and when "since" is."""

from collections.abc import Mapping
from typing import Any

from app.domain.errors import InvalidRequest
from app.domain.money import format_usd
from app.domain.record_json import rfc3339
from app.domain.spans import parse_moment

_TIME_LENGTH = {"day": len("2026-11-22"), "hour": len("2026-11-22T10:00")}


def moment(text: str | None, now_us: int) -> int | None:
    """A moment typed by the caller, in microseconds UTC. Raises InvalidRequest."""
    if not text:
        return None
    try:
        return parse_moment(text, now_us)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def report_row(row: Mapping[str, Any], by: str | None = None) -> dict[str, Any]:
    """A row of sums for people: its group first, times as text, money in dollars as decimal text."""
    group: dict[str, Any] = {}
    if by is not None:
        value = row[by]
        group[by] = rfc3339(value)[: _TIME_LENGTH[by]] if by in _TIME_LENGTH else value
    sums = {name: value for name, value in row.items() if name not in (by, "cost_nanousd")}
    cost = row["cost_nanousd"]
    return {**group, **sums, "cost_usd": None if cost is None else format_usd(cost)}
