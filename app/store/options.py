"""How a store is opened."""

import time
from collections.abc import Callable
from typing import TypedDict

from app.store.write.writer import Committed

FLUSH_SECONDS = 5.0


class StoreOptions(TypedDict, total=False):
    """Options of a store. Each may be left out.

    lock_wait_seconds  how long to wait for another process that has the store open; 0
    on_committed       called in the writer's thread with each batch of settled records that has reached the disk
    relaxed            True lets callers go on at once, before their records are on disk; False
    retention_days     records that are older are deleted; None keeps them all
    clock              seconds, monotonic
    now                microseconds since 1970 UTC
    process            the 32-bit number at the end of this process's request ids; random
    lease_seconds      PostgreSQL: how long a process must be missing until its open calls are closed; 30
    open_calls         how many calls the table of open calls has room for; 0 when nothing is served: then there is no
                       table, and no room is reserved for the spool
    """

    lock_wait_seconds: float
    on_committed: Committed | None
    relaxed: bool
    retention_days: int | None
    clock: Callable[[], float]
    now: Callable[[], int]
    process: int
    lease_seconds: float
    open_calls: int


def wall_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000
