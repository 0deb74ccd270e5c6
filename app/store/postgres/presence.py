"""Tells which processes are alive, and whose open calls nobody will settle any more.

The last 8 digits of a request id are the number of its process. A living process holds the advisory lock of its number
for as long as its writing connection lasts. One whose lock is gone is not dead yet: its connection may have broken, and
comes back. It counts as dead once its lock was missing at every look for `lease_seconds`, as seen by one watcher
whose own connection lasted all that time. No clock is compared with another one's.

A process that was cut off for longer, and settles its calls after all, is believed: see `LedgerTransaction`.
"""

import time
from collections.abc import Callable

from app.store.postgres.connection import PostgresConnection

LEASE_SECONDS = 30.0

_HOLD = "SELECT pg_try_advisory_lock(1466059879, %s::int4)"
_OPEN = "SELECT DISTINCT right(request_id, 8) FROM records WHERE outcome = 'in_progress'"
_LIVING = """
SELECT objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND classid = 1466059879 AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Presence:
    """Of one process, `process` being the 32-bit number in its ids. `clock` gives seconds, monotonic."""

    def __init__(self, process: int, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._process = process
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._held = False
        self._missed: dict[int, float] = {}  # process -> when its lock was first missing

    def begin(self, connection: PostgresConnection) -> None:
        """On a new connection: hold our lock, and start to watch anew."""
        self._held = False
        self._missed.clear()
        self.hold(connection)

    def hold(self, connection: PostgresConnection) -> None:
        """Take our lock, if it is not held. When our lost connection still has it, the next call tries again."""
        if not self._held:
            signed = self._process - 2**32 if self._process >= 2**31 else self._process
            row = connection.execute(_HOLD, (signed,)).fetchone()
            self._held = row is not None and bool(row[0])

    def gone(self, connection: PostgresConnection) -> list[str]:
        """The processes, as they stand in ids, that have left calls open and count as dead."""
        # In this order: a process holds its lock before it opens a call.
        with_open_calls = {int(suffix, 16) for (suffix,) in connection.execute(_OPEN) if _is_number(suffix)}
        living = {number for (number,) in connection.execute(_LIVING)}
        now = self._clock()
        missing = with_open_calls - living - {self._process}
        self._missed = {number: self._missed.get(number, now) for number in missing}
        return [suffix_of(number) for number, since in self._missed.items() if now - since >= self._lease_seconds]


def suffix_of(process: int) -> str:
    """How a process stands in the ids of its calls."""
    return f"{process:08x}"


def _is_number(suffix: str) -> bool:
    try:
        return int(suffix, 16) >= 0
    except ValueError:
        return False
