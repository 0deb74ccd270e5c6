"""The writer: the one thread of a process that writes to the database.

    asleep ──bell──▶ linger? ──▶ WritePath: commit ──▶ wake the loop, once for the batch ──▶ on_committed ──▶ asleep
                                      (or spool, or memory: the loop is woken all the same)

The loop's thread appends to deques, which needs no lock, and rings the bell only when the writer sleeps.
Measured: SQLAlchemy's async connection, with the same batches, costs 20 to 60 us a call more.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from app.domain.errors import StorageUnavailable
from app.domain.records import Record
from app.store.faults import Conflict
from app.store.schema.rows import Row
from app.store.schema.sql import Result, SqlStatement, compiled
from app.store.write.backend import Backend, ErrorKind
from app.store.write.batch import Batch
from app.store.write.maintenance import Maintenance
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from app.store.write.write_path import WritePath

LOG = logging.getLogger(__name__)

LINGER_SECONDS = 0.002
LINGER_ABOVE = 8
"""Waiting for more rows pays when this many calls may settle soon; for one call at a time it would double the cost."""
MOST_A_COMMIT = 1_000

_T = TypeVar("_T")
Committed = Callable[[list[Record]], None]


@dataclass(slots=True)
class _Job:
    statements: list[SqlStatement]
    reads: bool
    result: "asyncio.Future[list[Result]]"


class Writer:
    """Started, fed and closed on the loop; the methods below the line run in the thread.

    `on_committed` is called in the thread with each batch of settled records, after the loop has been told. Its errors
    are counted and go no further.
    """

    def __init__(
        self,
        backend: Backend,
        stats: LedgerStats,
        on_committed: Committed | None = None,
        maintenance: Maintenance | None = None,
        *,
        reserves: bool = False,
    ) -> None:
        self.backend = backend
        self._stats = stats
        self._on_committed = on_committed
        self._reserves = reserves
        self._maintenance = maintenance or Maintenance(None, lambda: 0)
        self._settled: deque[Pending] = deque()
        self._open_rows: deque[Row] = deque()
        self._amended: deque[Row] = deque()
        self._jobs: deque[_Job] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._last_batch = 0
        self._give_up_at: float | None = None
        self._thread: threading.Thread | None = None
        self.alive = False  # while records can be put

    async def start(self, deliver: Callable[[list[Pending]], None], in_flight: Callable[[], int]) -> None:
        """Open the database in the thread. Raises what the driver raises.

        `deliver` is called on the loop with each batch whose callers may go on; `in_flight` gives how many calls may
        settle soon.
        """
        self._deliver = deliver
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        ready: asyncio.Future[WritePath] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="ledger-writer", daemon=True)
        self.alive = True
        self._thread.start()
        try:
            self._write_path = await ready
        except asyncio.CancelledError:
            await self.close(0)
            raise

    @property
    def problem(self) -> str | None:
        """What is wrong with storage, in a sentence. None while all is well."""
        path = self._write_path
        if path.problem is None:
            return "records of a time of trouble wait to be replayed" if path.waiting else None
        return path.problem if path.spool_problem is None else f"{path.problem}; spool: {path.spool_problem}"

    @property
    def keeps(self) -> bool:
        """Whether a record that comes now would reach a disk."""
        return self.alive and self._write_path.keeps

    @property
    def replaying(self) -> bool:
        """Whether there are records that are not in the database yet."""
        return self._write_path.waiting

    def put(self, pending: Pending) -> None:
        """Write this record with the next commit."""
        self._settled.append(pending)
        if self._asleep:  # as _ring(), without a call: every record comes by here
            self._asleep = False
            self._bell.put(None)

    def put_open(self, rows: list[Row]) -> None:
        """Write rows of calls that are still open."""
        self._open_rows.extend(rows)
        self._ring()

    def put_amended(self, row: Row) -> None:
        """Write an amendment of a settled call."""
        self._amended.append(row)
        self._ring()

    async def run(self, *statements: sa.ClauseElement) -> list[Result]:
        """Run statements in one transaction: all or none. Raises Conflict or StorageUnavailable."""
        if not self.alive or self._give_up_at is not None:
            raise StorageUnavailable("The database is closed.")
        reads = all(isinstance(statement, sa.Select) for statement in statements)
        job = _Job(
            [compiled(statement, self.backend.dialect) for statement in statements], reads, self._loop.create_future()
        )
        self._jobs.append(job)
        self._ring()
        return await job.result

    async def close(self, deadline_seconds: float) -> bool:
        """Write what is left, for so long at most, and end the thread. False when it hangs in the file system."""
        self._give_up_at = time.monotonic() + deadline_seconds
        self._ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds + 1):
                await self._ended.wait()
        if self._ended.is_set() and self._thread is not None:
            self._thread.join()  # its last act was to say so
        return self._ended.is_set()

    def _ring(self) -> None:
        self._asleep = False
        self._bell.put(None)

    # ---------------------------------------------------------------------------------------------- in the thread

    def _main(self, ready: "asyncio.Future[WritePath]") -> None:
        try:
            write_path = WritePath(self.backend, self._stats, self._let_go, self._maintenance, reserves=self._reserves)
        except Exception as error:  # noqa: BLE001 - raised by start()
            self.alive = False
            self._tell(_fail, ready, error)
            return
        self._tell(_resolve, ready, write_path)
        try:
            while self._rest(write_path):
                self._linger(write_path)
                if batch := self._arrived():
                    write_path.keep(batch)
                self._run_jobs(write_path)
                write_path.tend(idle=not self._busy)
        finally:
            self.alive = False
            self._abandon_rest(write_path)
            write_path.close()
            self._tell(self._ended.set)

    @property
    def _busy(self) -> bool:
        return bool(self._settled or self._open_rows or self._amended or self._jobs)

    def _rest(self, write_path: WritePath) -> bool:
        """Sleep until there is work: arrivals, something to tend, the end. False at the end."""
        self._asleep = True
        # Look after the flag is set: whatever is appended from here on rings the bell.
        wait = 0.0 if self._busy else write_path.wait_seconds()
        if self._give_up_at is not None:
            write_path.hasten()
            wait = min(wait, write_path.wait_seconds()) if write_path.unfinished else 0
        if wait > 0:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=wait)
        self._asleep = False
        if self._give_up_at is None:
            return True
        return (self._busy or write_path.unfinished) and time.monotonic() < self._give_up_at

    def _linger(self, write_path: WritePath) -> None:
        """Let more settlements join the batch, while there are many. A fixed linger would hurt a single caller."""
        many = self._last_batch > LINGER_ABOVE or self._in_flight() > LINGER_ABOVE
        if many and self._settled and not write_path.problem and self._give_up_at is None:
            time.sleep(LINGER_SECONDS)

    def _arrived(self) -> Batch:
        batch = Batch(_drain(self._open_rows), _drain(self._settled), _drain(self._amended))
        self._last_batch = len(batch.settled)
        return batch

    def _let_go(self, pending: list[Pending], on_disk: bool) -> None:  # noqa: FBT001 - WritePath calls it so
        for one in pending:
            one.kept = on_disk
        self._tell(self._deliver, pending)
        if not on_disk or self._on_committed is None:
            return
        try:
            self._on_committed([one.record for one in pending])
        except Exception:
            self._stats.failed_hooks += 1
            LOG.exception("The hook after a commit failed")

    def _run_jobs(self, write_path: WritePath) -> None:
        for job in _drain(self._jobs):
            try:
                results = write_path.run(job.statements, reads=job.reads)
            except Exception as error:  # noqa: BLE001 - the caller hears of it, the thread goes on
                if self.backend.kind_of(error) is ErrorKind.CONFLICT:
                    self._tell(_fail, job.result, Conflict(str(error)))
                    continue
                problem = f"The database {'cannot be read' if job.reads else 'does not take changes'} at the moment"
                LOG.error("%s: %s", problem, error)  # noqa: TRY400
                self._tell(_fail, job.result, StorageUnavailable(f"{problem}."))
            else:
                self._tell(_resolve, job.result, results)

    def _abandon_rest(self, write_path: WritePath) -> None:
        """At the end storage still refuses: log what is lost, and let all callers go on."""
        lost = write_path.abandon() + len(self._settled)
        if lost:
            self._stats.abandoned += lost
            LOG.critical("%d records were not stored before the end: %s", lost, write_path.problem)
            self._let_go(list(self._settled), False)
        for job in self._jobs:
            self._tell(_fail, job.result, StorageUnavailable("The database is closed."))

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            self._loop.call_soon_threadsafe(callback, *args)


def _drain(arrivals: deque[_T]) -> list[_T]:
    return [arrivals.popleft() for _ in range(min(len(arrivals), MOST_A_COMMIT))]


def _resolve(result: "asyncio.Future[_T]", value: _T) -> None:
    if not result.done():
        result.set_result(value)


def _fail(result: "asyncio.Future[_T]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
