"""Maintenance: the writer adds up days that are over, and deletes old records, when it has nothing else to do.

It works in small steps with pauses, so that no call waits long. Records are deleted by whole hours; their roll-ups
stay. SQLite uses the freed pages for the next records, so the file stops growing without a VACUUM.
"""

from collections.abc import Callable

from app.store.schema.rollups import DAY_MICROSECONDS, HOUR_MICROSECONDS, hour_of
from app.store.write.ledger_database import LedgerDatabase

ROWS_A_STEP = 500
"""Takes some 5 ms. Twenty steps a second are more than calls come in over the long run."""

_FIRST_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_INTERVAL_SECONDS = 300.0
_PATIENCE_SECONDS = 1.0
_LATE_MICROSECONDS = 2 * HOUR_MICROSECONDS
"""A day is added up when most of its calls have surely been settled; each later one costs another row."""


class Maintenance:
    """`now` gives microseconds UTC; `at` is a reading of the writer's monotonic clock, in seconds.

    Records older than `retention_days` are deleted; None keeps them all.
    """

    def __init__(self, retention_days: int | None, now: Callable[[], int]) -> None:
        self._kept = None if retention_days is None else retention_days * DAY_MICROSECONDS
        self._now = now
        self._next_at: float | None = None

    def wait_seconds(self, at: float) -> float:
        """Until the next step."""
        if self._next_at is None:
            self._next_at = at + _FIRST_SECONDS
        return max(0.0, self._next_at - at)

    def due(self, at: float, *, idle: bool) -> bool:
        """Whether to take a step. A writer that is never `idle` takes one after _PATIENCE_SECONDS all the same."""
        wait = self.wait_seconds(at)
        return wait == 0 and (idle or at - (self._next_at or at) >= _PATIENCE_SECONDS)

    def step(self, database: LedgerDatabase, at: float) -> int:
        """Take a step. Gives how many records were deleted. When it raises, the step is tried again later."""
        self._next_at = at + _INTERVAL_SECONDS
        more = database.fold_day(self._now() - _LATE_MICROSECONDS)
        deleted = 0
        if not more and self._kept is not None:
            deleted = database.delete_before(hour_of(self._now() - self._kept), ROWS_A_STEP)
        if more or deleted == ROWS_A_STEP:
            self._next_at = at + _PAUSE_SECONDS
        return deleted
