"""A wall clock for deletions, which are final: it ignores leaps of a clock that was set wrong."""

from app.gateway.clock import Clock

LEAP_MICROSECONDS = 3_600_000_000
"""A wall clock that is ahead by so much has leapt: it was set, or the machine slept."""

DOUBT_SECONDS = 86_400.0
"""How long a leap must last before it counts."""


class MonotonicWallClock:
    """The wall clock without leaps ahead: until a leap counts, time goes on without it.

    Leaps back count at once, since they only keep data for longer. The clock's first reading counts as well.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_us = clock.wall_us()
        self._monotonic = clock.monotonic()

    def now(self) -> int:
        """Microseconds UTC. Any thread may call it."""
        wall, monotonic = self._clock.wall_us(), self._clock.monotonic()
        elapsed = monotonic - self._monotonic
        expected = self._wall_us + round(elapsed * 1_000_000)
        if wall > expected + LEAP_MICROSECONDS and elapsed < DOUBT_SECONDS:
            return expected
        self._wall_us, self._monotonic = wall, monotonic
        return wall
