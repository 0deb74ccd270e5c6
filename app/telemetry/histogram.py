"""A histogram that costs one bisection an observation; prometheus_client's own takes a lock and four dictionaries."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(slots=True, frozen=True)
class HistogramReading:
    """A histogram at one moment: per bound how many were at most that much, the last bound being infinity."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    total: float

    @classmethod
    def of(cls, bounds: Sequence[float], counts: Iterable[int], total: float) -> "HistogramReading":
        """From what fell between the bounds, and after the last one."""
        return cls((*bounds, float("inf")), tuple(accumulate(counts)), total)


class Histogram:
    """Counts observations by size. Bounds are upper and inclusive. One thread observes, any may read."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> HistogramReading:
        return HistogramReading.of(self._bounds, self._counts.copy(), self._total)


def doubling(first: float, steps: int) -> tuple[float, ...]:
    """Bounds of which each is twice the one before."""
    return tuple(round(first * 2**step, 9) for step in range(steps))
