from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.histogram import Histogram, doubling

BOUNDS = (0.1, 0.5, 2.0)


@given(values=st.lists(st.floats(0, 10)))
def test_each_bound_counts_what_is_at_most_that_much(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    reading = histogram.read()
    assert reading.bounds == (*BOUNDS, float("inf"))
    assert reading.cumulative == tuple(sum(value <= bound for value in values) for bound in reading.bounds)
    assert reading.total == sum(values)


def test_doubling() -> None:
    assert doubling(0.01, 4) == (0.01, 0.02, 0.04, 0.08)
