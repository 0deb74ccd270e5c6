"""A settled record on its way to disk, and the caller that waits for it."""

import logging
from collections.abc import Callable

from app.domain.records import Record

LOG = logging.getLogger(__name__)


class Pending:
    """`since` is the ledger clock's reading at settle(). The callback belongs to the loop's thread.

    `done`: the record is on disk, or was given up. `kept`: it is on disk. `slot`: its slot in the table of open calls
    until that is cleared; 0 is none.
    """

    __slots__ = ("_durable", "done", "kept", "record", "since", "slot")

    def __init__(self, record: Record, durable: Callable[[], None] | None, since: float, slot: int = 0) -> None:
        self.record = record
        self.since = since
        self.slot = slot
        self.done = False
        self.kept = False
        self._durable = durable

    @property
    def waits(self) -> bool:
        """Whether the caller is still waiting."""
        return self._durable is not None

    def release(self) -> None:
        """Let the caller go on, once, however often this is called. Its errors are logged: others wait behind it."""
        durable, self._durable = self._durable, None
        if durable is None:
            return
        try:
            durable()
        except Exception:
            LOG.exception("A callback of the ledger failed")
