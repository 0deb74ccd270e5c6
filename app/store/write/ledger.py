"""The ledger on the loop's side: which calls are open, and who waits for a commit."""

import asyncio
from collections import deque
from collections.abc import Callable

from app.domain.errors import StorageUnavailable
from app.domain.records import Record
from app.store.schema.rows import open_row_of, row_of
from app.store.spool.open_calls import OpenCalls
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from app.store.write.writer import Writer

OPEN_ROW_AFTER_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 2.0
"""A caller goes on after this, on disk or not: a stream must end even when a disk hangs."""
SWEEP_SECONDS = 0.1
LOOK_SECONDS = 0.005
CAPACITY = 100_000
"""Records that may wait for storage; about 100 MB at the most."""


class BatchLedger:
    """The gateway's Ledger port. A call costs a slot, dictionary entries and a few appends; the writer does the rest.

    `clock` gives seconds, monotonic. A record that finds the queue full is dropped and counted (`stats.overflowed`).
    `relaxed` lets callers go on at once, before their records are on disk. Without `open_calls` a `kill -9` loses the
    calls that have no row yet.
    """

    def __init__(  # noqa: PLR0913 - its writer, and what a store may be opened with
        self,
        writer: Writer,
        stats: LedgerStats,
        *,
        clock: Callable[[], float],
        capacity: int = CAPACITY,
        relaxed: bool = False,
        open_calls: OpenCalls | None = None,
    ) -> None:
        self.stats = stats
        self._open_calls = open_calls
        self._slots: dict[str, int] = {}  # by request id: of calls that are not settled
        self._writer = writer
        self._clock = clock
        self._capacity = capacity
        self._relaxed = relaxed
        self._loop = asyncio.get_running_loop()
        self._young: dict[str, tuple[float, Record]] = {}  # open and without a row, oldest first
        self._noted: dict[str, Record] = {}  # open, with a row that knows less
        self._undone: deque[Pending] = deque()  # in order of settlement, as is the next
        self._waiting: deque[Pending] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def admit(self, record: Record) -> None:
        """The call is under way. Its row is written once it has been open for 0.25 s; at once if it has no slot."""
        if self._open_calls is not None:
            slot = self._open_calls.fill(record)
            if not slot:
                self._writer.put_open([open_row_of(record)])
                return
            self._slots[record.request_id] = slot
        self._young[record.request_id] = (self._clock(), record)
        if self._timer is None:
            self._arm()

    def note(self, record: Record) -> None:
        """More is known of an open call, such as its generation id. Its row, if any, is updated within about 0.1 s."""
        if self._open_calls is not None and (slot := self._slots.get(record.request_id)):
            self._open_calls.note(slot, record)
        if record.request_id in self._young:
            return
        self._noted[record.request_id] = record
        if self._timer is None:
            self._arm()

    def settle(self, record: Record, durable: Callable[[], None]) -> None:
        """Write the record; `durable` is called on the loop, never from within this call.

        That is when the record is on disk, after 2 s at the latest when storage is in trouble, at once when relaxed.
        """
        self._young.pop(record.request_id, None)
        self._noted.pop(record.request_id, None)
        slot = self._slots.pop(record.request_id, 0)  # if the record is dropped, the slot tells of the call
        self.stats.taken += 1
        if self._closed or self.stats.queue_depth > self._capacity:
            self.stats.overflowed += 1
            self._loop.call_soon(durable)
            return
        if self._relaxed:
            self._loop.call_soon(durable)
            pending = Pending(record, None, self._clock(), slot)
        else:
            pending = Pending(record, durable, self._clock(), slot)
            self._waiting.append(pending)
        self._undone.append(pending)
        self._writer.put(pending)
        if self._timer is None:
            self._arm()

    def amend(self, record: Record) -> None:
        """Upstream's records have told the usage of a settled call: `usage_source` is `settled`.

        Tokens and cost replace those of its row, once, if the row has none or estimated ones.
        """
        if not self._closed:
            self._writer.put_amended(row_of(record))

    @property
    def keeps(self) -> bool:
        """Whether a record that is settled now would reach a disk."""
        full = self.stats.queue_depth >= self._capacity
        return not (self._closed or full) and self._writer.keeps and not self.overdue()

    async def caught_up(self) -> None:
        """Wait until the database has everything settled so far, and calls of ended processes are closed.

        Raises StorageUnavailable when records wait in the spool or in memory.
        """
        last = self._undone[-1] if self._undone else None
        while last is not None and not last.done and not self.overdue():  # noqa: ASYNC110 - the thread's
            await asyncio.sleep(LOOK_SECONDS)
        if self._writer.replaying or (last is not None and not last.done):
            raise StorageUnavailable("The database does not have all records yet. Try again in a moment.")

    def in_flight(self) -> int:
        """Calls that may settle soon: those open for less than 0.25 s or so. Any thread may ask."""
        return len(self._young)

    def overdue(self) -> bool:
        """Whether a record has been on its way to disk for too long: the disk hangs."""
        try:
            first = self._undone[0]  # those that are done stay until the next sweep
            return not first.done and self._clock() - first.since >= LONGEST_WAIT_SECONDS
        except IndexError:  # nothing is on its way; asked from other threads, too
            return False

    def deliver(self, batch: list[Pending]) -> None:
        """Let the callers of a batch go on. A batch that is not on disk comes again once it is."""
        cleared = []
        for pending in batch:
            pending.done = True
            pending.release()
            if pending.slot and pending.kept:
                cleared.append(pending.slot)
                pending.slot = 0
        if cleared and self._open_calls is not None:
            self._open_calls.clear(cleared)

    def sweep(self) -> None:
        """Give the writer rows for calls open for long or with news. Let callers go on that have waited too long."""
        now = self._clock()
        rows = [open_row_of(record) for record in self._noted.values()]
        self._noted.clear()
        for opened, record in list(self._young.values()):
            if now - opened < OPEN_ROW_AFTER_SECONDS:
                break
            rows.append(open_row_of(record))
            del self._young[record.request_id]
        if rows:
            self._writer.put_open(rows)
        self._forget_done()
        while self._waiting and now - self._waiting[0].since >= LONGEST_WAIT_SECONDS:
            self.stats.released_early += 1
            self._waiting.popleft().release()

    async def close(self, deadline_seconds: float) -> bool:
        """Write what is left, and rows of open calls. Let all callers go on. False when the writer hangs."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        still_open = [*self._noted.values(), *(record for _, record in self._young.values())]
        self._writer.put_open([open_row_of(record) for record in still_open])
        self._young.clear()
        self._noted.clear()
        ended = await self._writer.close(deadline_seconds)
        self.deliver(list(self._waiting))
        return ended

    def _forget_done(self) -> None:
        for queue in (self._undone, self._waiting):
            while queue and queue[0].done:
                queue.popleft()

    def _arm(self) -> None:
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self._young or self._noted or self._undone:
            self._arm()
