"""The gateway's clocks: a wall clock for what is recorded, a monotonic one for what is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def wall_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(slots=True, frozen=True)
class Clock:
    """Both clocks; tests drive their own by hand. `monotonic` is in seconds."""

    wall_us: Callable[[], int] = wall_us
    monotonic: Callable[[], float] = time.monotonic
