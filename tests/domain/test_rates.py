"""Rates: in no minute is more taken than the limit, and who takes all there is gets 99 % of it."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.rates import MINUTE_NS, PART_NS, Rate

SECOND_NS = 1_000_000_000


def take_all(limit: int, size: int, steps: list[int]) -> list[tuple[int, int]]:
    """What gets through of calls of this size that come at such distances (nanoseconds): (time, units)."""
    rate, now, through = Rate(), 0, []
    for step in steps:
        now += step
        rate.advance(now)
        if not rate.wait_ns(size, limit, now):
            rate.take(size, now)
            through.append((now, size))
    return through


@given(st.integers(1, 40), st.integers(1, 5), st.lists(st.integers(0, 30 * SECOND_NS), min_size=1, max_size=60))
def test_no_minute_has_more_than_the_limit(limit: int, size: int, steps: list[int]) -> None:
    through = take_all(limit, min(size, limit), steps)
    for start, _ in through:
        assert sum(units for at, units in through if start <= at < start + MINUTE_NS) <= limit


def test_who_takes_all_there_is_gets_it_within_one_per_cent() -> None:
    for limit in (60, 600, 6000):
        through = take_all(limit, 1, [SECOND_NS // 200] * (200 * 60 * 10))
        for minute in range(1, 10):
            taken = sum(1 for at, _ in through if at < minute * (MINUTE_NS + PART_NS))
            assert abs(taken - minute * limit) <= 0.01 * minute * limit
        first = sum(1 for at, _ in through if at < MINUTE_NS)
        assert first == limit


@given(st.integers(1, 30), st.lists(st.integers(0, 20 * SECOND_NS), max_size=30), st.integers(1, 30))
def test_there_is_room_when_it_was_said_and_not_before(limit: int, steps: list[int], size: int) -> None:
    size = min(size, limit)
    rate, now = Rate(), 0
    for step in steps:
        now += step
        rate.advance(now)
        if not rate.wait_ns(1, limit, now):
            rate.take(1, now)
    wait = rate.wait_ns(size, limit, now)
    if wait > PART_NS:
        rate.advance(now + wait - PART_NS)
        assert rate.wait_ns(size, limit, now + wait - PART_NS) > 0
    rate.advance(now + wait)
    assert rate.wait_ns(size, limit, now + wait) == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 40 * SECOND_NS)), max_size=30))
def test_what_is_given_back_is_free_at_once_and_nothing_is_forgotten_twice(calls: list[tuple[int, int, int]]) -> None:
    rate, now = Rate(), 0
    taken = []
    for units, used, step in calls:
        rate.advance(now)
        part = rate.take(units, now)
        now += step
        rate.advance(now)
        rate.correct(part, used - units)
        taken.append((part.number, used if now // PART_NS - part.number <= MINUTE_NS // PART_NS else 0))
    rate.advance(now)
    expected = sum(used for number, used in taken if now // PART_NS - number <= MINUTE_NS // PART_NS)
    assert rate.used == expected
    rate.advance(now + 2 * MINUTE_NS)
    assert rate.used == 0
    assert rate.free_at_ns <= now + 2 * MINUTE_NS


def test_when_all_is_free_again() -> None:
    rate = Rate()
    assert rate.free_at_ns == 0
    rate.take(3, 0)
    rate.take(1, 10 * SECOND_NS)
    assert rate.free_at_ns == 10 * SECOND_NS + MINUTE_NS + PART_NS
