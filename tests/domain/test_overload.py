"""One late turn of the loop is no overload, and overload ends only when the loop is well on time."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.overload import OverloadDetector


def looks(bound: float, *lags: float) -> list[bool]:
    detector = OverloadDetector(bound)
    return [detector.note(lag) for lag in lags]


def test_one_late_turn_is_no_overload() -> None:
    assert not any(looks(0.5, 9.0, 0.0, 9.0, 0.1, 9.0, 0.5))


def test_late_again_is_overload_until_the_loop_is_on_time() -> None:
    found = looks(0.5, 0.6, 0.6, 0.4, 0.3, 0.6, 0.25, 0.6, 0.0)
    assert found == [False, True, True, True, True, False, False, False]


@given(st.lists(st.floats(0, 100)))
def test_0_switches_it_off(lags: list[float]) -> None:
    assert not any(looks(0, *lags))


@given(st.floats(0.001, 10), st.lists(st.floats(0, 100)))
def test_it_never_begins_with_a_look_in_time_nor_ends_with_a_late_one(bound: float, lags: list[float]) -> None:
    before = False
    for lag, now in zip(lags, looks(bound, *lags), strict=True):
        assert not (now and not before and lag <= bound)
        assert not (before and not now and lag > bound / 2)
        before = now
