"""A Rate counts what was taken within the last minute, in integers, by a monotonic clock.

The minute slides in parts of a quarter of a second, so that each unit counts for 60 to 60.25 s. No 60 s have more than
the limit, the whole limit may be taken at once, and steady use gets 99.6 % of it. GCRA, the usual algorithm with one
number as its state, cannot do both: with a burst of the whole limit it allows twice the limit in a minute, and with a
small burst it refuses the second of two calls that come together.
"""

from collections import deque

MINUTE_NS = 60_000_000_000
PART_NS = 250_000_000
_PARTS = MINUTE_NS // PART_NS


class RatePart:
    """What was taken in one part of a minute."""

    __slots__ = ("number", "units")

    def __init__(self, number: int) -> None:
        self.number = number
        self.units = 0


_NO_PART = RatePart(-1)


class Rate:
    """Requests or tokens of one client or group. Times are nanoseconds and never fall."""

    __slots__ = ("_last", "_parts", "free_at_ns", "used")

    def __init__(self) -> None:
        self._parts: deque[RatePart] = deque()
        self._last = _NO_PART
        self.used = 0
        self.free_at_ns = 0  # from then on nothing that was taken counts

    def advance(self, now_ns: int) -> None:
        """Forget what was taken more than a minute ago. Must be called first, at least once in each part."""
        parts = self._parts
        oldest = now_ns // PART_NS - _PARTS
        while parts and parts[0].number < oldest:
            self.used -= parts.popleft().units

    def take(self, units: int, now_ns: int) -> RatePart:
        """Take so many units. Ask wait_ns() first whether there is room."""
        number = now_ns // PART_NS
        part = self._last
        if part.number != number:
            self._last = part = RatePart(number)
            self._parts.append(part)
            self.free_at_ns = (number + _PARTS + 1) * PART_NS
        part.units += units
        self.used += units
        return part

    def correct(self, part: RatePart, units: int) -> None:
        """Add so many units (or remove them) to what was taken. Does nothing after a minute."""
        parts = self._parts
        if parts and part.number >= parts[0].number:
            part.units += units
            self.used += units

    def wait_ns(self, units: int, limit: int, now_ns: int) -> int:
        """Nanoseconds until there is room for so many units, which must not exceed the limit."""
        excess = self.used + units - limit
        if excess <= 0:
            return 0
        for part in self._parts:
            excess -= part.units
            if excess <= 0:
                return (part.number + _PARTS + 1) * PART_NS - now_ns
        return MINUTE_NS


def next_part_ns(now_ns: int) -> int:
    """When the next part begins. Until then advance() forgets nothing more."""
    return (now_ns // PART_NS + 1) * PART_NS
