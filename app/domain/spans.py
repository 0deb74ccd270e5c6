"""Spans and moments as people type them: `24h`, `90d`, `2026-11`, `2026-11-22`, `2026-11-22T10:00:00Z`."""

import re
from datetime import UTC, datetime, timedelta

_SPAN = re.compile(r"(\d{1,9})\s*(s|m|h|d|w)")
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def is_span(text: str) -> bool:
    """Whether parse_span() can read the text."""
    return _SPAN.fullmatch(text.strip().lower()) is not None


def parse_span(text: str) -> int:
    """A span in microseconds. Raises ValueError with a message for the user."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        message = f"{text!r} is not a span of time: write a number and s, m, h, d or w, as in 90d."
        raise ValueError(message)
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000


def parse_moment(text: str, now_us: int) -> int:
    """A moment in microseconds UTC: so long ago, or a date or time of ISO 8601 (UTC unless it says otherwise).

    A month or a day means its beginning. The result lies between 1970 and 9999. Raises ValueError with a message for
    the user.
    """
    if is_span(text):
        return max(0, now_us - parse_span(text))
    try:
        text = text.strip()
        when = datetime.fromisoformat(f"{text}-01" if _MONTH.fullmatch(text) else text)
    except ValueError:
        message = f"{text!r} is neither a span (24h, 7d) nor a date (2026-11, 2026-11-22, 2026-11-22T10:00Z)."
        raise ValueError(message) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0, (when - _EPOCH) // timedelta(microseconds=1)), _LATEST)
