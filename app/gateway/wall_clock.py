"""The calendar: the date for whoever deletes by it. What is deleted because a clock was wrong does not come back."""

from app.gateway.clock import Clock

LEAP_MICROSECONDS = 3_600_000_000
"""A wall clock that is ahead by so much has leapt: it was set wrong, or right, or the machine slept."""

DOUBT_SECONDS = 86_400.0
"""So long a leap must last to be believed."""


class MonotonicWallClock:
    """The wall clock, but for leaps ahead: until one is believed, time goes on as if there had been none.

    Leaps back are believed at once: then what is old is only kept for longer. What the clock says when the process
    begins is believed as well, since there is nothing to judge it by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_us = clock.wall_us()
        self._monotonic = clock.monotonic()

    def now(self) -> int:
        """Microseconds UTC. Any thread may ask."""
        wall, monotonic = self._clock.wall_us(), self._clock.monotonic()
        elapsed = monotonic - self._monotonic
        expected = self._wall_us + round(elapsed * 1_000_000)
        if wall > expected + LEAP_MICROSECONDS and elapsed < DOUBT_SECONDS:
            return expected
        self._wall_us, self._monotonic = wall, monotonic
        return wall
