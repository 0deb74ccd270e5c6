"""The calendar: steps back and small ones ahead are followed at once, a leap ahead after a day."""

from hypothesis import given
from hypothesis import strategies as st

from app.gateway.wall_clock import DOUBT_SECONDS, LEAP_MICROSECONDS, MonotonicWallClock
from tests.gateway.forms import TwoClocks

HOUR_US = 3_600_000_000


def test_a_leap_ahead_is_believed_after_a_day() -> None:
    clocks = TwoClocks()
    calendar = MonotonicWallClock(clocks.clock)
    clocks.go_on(60)
    assert calendar.now() == clocks.wall
    clocks.wall += 1000 * HOUR_US
    assert calendar.now() == clocks.wall - 1000 * HOUR_US
    clocks.go_on(DOUBT_SECONDS - 1)
    assert calendar.now() == clocks.wall - 1000 * HOUR_US
    clocks.go_on(1)
    assert calendar.now() == clocks.wall


def test_a_leap_that_is_taken_back_was_none() -> None:
    clocks = TwoClocks()
    calendar = MonotonicWallClock(clocks.clock)
    clocks.wall += 1000 * HOUR_US
    calendar.now()
    clocks.go_on(5000)
    clocks.wall -= 1000 * HOUR_US
    assert calendar.now() == clocks.wall


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(-(10**13), 10**13)), max_size=20))
def test_it_is_never_further_ahead_than_time_can_tell(steps: list[tuple[float, int]]) -> None:
    clocks = TwoClocks()
    calendar = MonotonicWallClock(clocks.clock)
    told = calendar.now()
    for seconds, leap in steps:
        clocks.go_on(seconds)
        clocks.wall += leap
        before, told = told, calendar.now()
        assert told <= clocks.wall
        if sum(passed for passed, _ in steps) < DOUBT_SECONDS:
            assert told <= before + seconds * 1_000_000 + LEAP_MICROSECONDS + 1
