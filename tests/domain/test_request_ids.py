"""Ids of exchanges: unique, in order of time, and of one shape."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.domain.identity.request_ids import RequestIds

SHAPE = re.compile(r"req_[0-9a-f]{26}")
MOMENTS = st.integers(0, 4_000_000_000_000_000)


@given(st.lists(MOMENTS, max_size=50), st.integers(0, 2**40), st.integers(0, 2**40))
def test_ids_are_unique_whatever_the_clock_does(moments: list[int], process: int, other: int) -> None:
    ids, others = RequestIds(process), RequestIds(other)
    made = [ids.next(moment) for moment in moments]
    theirs = [others.next(moment) for moment in moments]
    assert len(set(made)) == len(moments)
    if process % 2**32 != other % 2**32:
        assert not set(made) & set(theirs)
    assert all(SHAPE.fullmatch(id_) for id_ in made + theirs)


@given(st.lists(MOMENTS, min_size=2, max_size=50))
def test_ids_sort_as_time_goes(moments: list[int]) -> None:
    ids = RequestIds(1)
    made = [ids.next(moment) for moment in sorted(moments)]
    assert made == sorted(made)


def test_the_counter_may_run_over() -> None:
    ids = RequestIds(1)
    ids._count = 0xFFFFFE
    made = [ids.next(moment) for moment in (1000, 2000, 3000)]
    assert made == sorted(set(made))
    assert all(SHAPE.fullmatch(id_) for id_ in made)
