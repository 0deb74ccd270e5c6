"""Windows: every moment lies in exactly one window of each period, and they follow one another without gaps."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.windows import ALL_TIME, Period, window_of

YEAR_2200 = 7_258_118_400_000_000
MOMENTS = st.integers(0, YEAR_2200)
LONGEST_US = 31 * 86_400_000_000


def us(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("period", "first", "end"),
    [
        (Period.DAY, us(2026, 11, 22), us(2026, 11, 23)),
        (Period.WEEK, us(2026, 11, 16), us(2026, 11, 23)),
        (Period.MONTH, us(2026, 11, 1), us(2026, 12, 1)),
    ],
)
def test_a_moment_lies_in_its_window(period: Period, first: int, end: int) -> None:
    window = window_of(period, us(2026, 11, 22, 15))  # a Sunday
    assert (window.begins_at, window.ends_at) == (first, end)


def test_a_year_ends_with_its_december() -> None:
    assert window_of(Period.MONTH, us(2026, 12, 31, 23)).ends_at == us(2027, 1, 1)


@given(MOMENTS)
def test_all_time_is_one_window(moment: int) -> None:
    assert window_of(Period.TOTAL, moment) == ALL_TIME


@given(MOMENTS, st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]))
def test_windows_follow_one_another(moment: int, period: Period) -> None:
    window = window_of(period, moment)
    assert window.ends_at is not None
    assert window.begins_at <= moment < window.ends_at <= window.begins_at + LONGEST_US
    assert window_of(period, window.begins_at) == window == window_of(period, window.ends_at - 1)
    assert window_of(period, window.ends_at).begins_at == window.ends_at
