"""A Window is the stretch of time of a budget: a day, a week, a calendar month in UTC, or all time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Period(StrEnum):
    """How long a window is. A week begins on Monday, 00:00 UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(slots=True, frozen=True)
class Window:
    """From (inclusive) until (exclusive), microseconds UTC. All time has no end."""

    begins_at: int
    ends_at: int | None


ALL_TIME = Window(0, None)


def window_of(period: Period, at_us: int) -> Window:
    """The window of this period that contains a moment."""
    if period is Period.TOTAL:
        return ALL_TIME
    moment = _EPOCH + timedelta(microseconds=at_us)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        first, last = day, day + timedelta(days=1)
    elif period is Period.WEEK:
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        last = (first + timedelta(days=31)).replace(day=1)
    return Window((first - _EPOCH) // _MICROSECOND, (last - _EPOCH) // _MICROSECOND)
