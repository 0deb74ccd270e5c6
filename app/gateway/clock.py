"""Time, as the gateway sees it: a wall clock for what is written down, a monotonic one for what is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def wall_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(slots=True, frozen=True)
class Clock:
    """Both clocks, replaceable by hand-driven ones. `monotonic` is in seconds."""

    wall_us: Callable[[], int] = wall_us
    monotonic: Callable[[], float] = time.monotonic
