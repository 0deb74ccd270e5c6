"""How late the event loop is: the one number that shows when something blocks it."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

INTERVAL_SECONDS = 0.5


class Timer(Protocol):
    """What an event loop gives for a call it is to make later."""

    def cancel(self) -> None:
        """Do not make it."""


class LoopLag:
    """Sets itself a timer every half second and tells by how many seconds it fired too late, never less than 0.

    The clock is not the loop's own: uvloop's stands still while a callback runs, which is just what is to be seen.
    """

    def __init__(
        self,
        observe: Callable[[float], None],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._observe = observe
        self._interval = interval_seconds
        self._clock = clock
        self._call_later: Callable[[float, Callable[[], None]], Timer] | None = None
        self._timer: Timer | None = None
        self._due = 0.0

    def start(self, call_later: Callable[[float, Callable[[], None]], Timer] | None = None) -> None:
        """Begin, on the running loop unless told of another way to set timers."""
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self._arm()

    def stop(self) -> None:
        """Set no more timers. Harmless when there is none."""
        if self._timer is not None:
            self._timer.cancel()
        self._call_later = self._timer = None

    def _arm(self) -> None:
        if self._call_later is not None:
            self._due = self._clock() + self._interval
            self._timer = self._call_later(self._interval, self._fired)

    def _fired(self) -> None:
        self._observe(max(0.0, self._clock() - self._due))
        self._arm()
