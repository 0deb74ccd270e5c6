"""Spans and moments as people type them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.spans import parse_moment, parse_span

NOW = 1_790_000_000_000_000
SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7_776_000), ("24h", 86_400), ("5m", 300), ("30s", 30), ("2w", 1_209_600), (" 1 H ", 3600), ("0s", 0)],
)
def test_a_span(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "d", "5", "-5d", "1.5h", "5y", "1h30m", "5 d d", "1234567890s", "5ĸ"])
def test_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span of time"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("24h", datetime.fromtimestamp(NOW / SECOND, UTC) - timedelta(hours=24)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11", datetime(2026, 11, 1, tzinfo=UTC)),
        (" 2026-11-22T10:00Z ", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00.123456", datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-11-22T10:00+02:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("1969-12-31", EPOCH),
        ("0001-01-01T00:00+23:59", EPOCH),
        ("999999999w", EPOCH),
        ("9999-12-31T23:59:59-23:59", END),
    ],
)
def test_a_moment(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-13", "2026-1", "2026-11-22T25:00", "24", "-24h", "10000-01-01"]
)
def test_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="neither a span"):
        parse_moment(text, NOW)


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 30)), ZONES)  # noqa: DTZ001 - the zone is drawn apart
def test_every_microsecond_is_read_exactly(when: datetime, zone: timezone) -> None:
    aware = when.replace(tzinfo=zone)
    assert parse_moment(aware.isoformat(), NOW) == (aware - EPOCH) // timedelta(microseconds=1)


@given(st.from_regex(r"\d{1,9} ?[smhdwSMHDW]", fullmatch=True, alphabet=st.characters(codec="ascii")))
def test_a_moment_is_always_one_that_can_be_stored_and_shown(text: str) -> None:
    moment = parse_moment(text, NOW)
    assert moment == max(0, NOW - parse_span(text))
    datetime.fromtimestamp(moment / SECOND, UTC)
