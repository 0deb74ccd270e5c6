"""The Writer: one thread through which everything reaches the SQLite file.

    asleep ──bell──▶ linger? ──▶ commit ──ok──▶ wake the loop, once for the batch ──▶ on_committed ──▶ asleep
                                    └─refused─▶ wake the loop all the same; Backlog, and try again later

The loop's thread appends to deques, which needs no lock, and rings the bell only when the writer sleeps.
Measured: SQLAlchemy's async connection, with the same batches, costs 20 to 60 us a call more.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from app.domain.errors import StorageUnavailable
from app.domain.records import Record
from app.store.backlog import Backlog
from app.store.database import Database, Result, Statement, compiled
from app.store.pending import Pending
from app.store.rows import Row
from app.store.stats import LedgerStats

LOG = logging.getLogger(__name__)

LINGER_SECONDS = 0.001
LINGER_ABOVE = 8
"""Waiting for more rows pays when this many calls may settle soon; for one call at a time it would double the cost."""
MOST_A_COMMIT = 1_000
_CLOSING_RETRY_SECONDS = 0.05

_T = TypeVar("_T")
Committed = Callable[[list[Record]], None]


@dataclass(slots=True)
class _Job:
    statements: list[Statement]
    result: "asyncio.Future[list[Result]]"


class Writer:
    """Started, fed and closed on the loop; the methods below the line run in the thread.

    `on_committed` is called in the thread with each batch of settled records, after the loop has been told. Its errors
    are counted and go no further.
    """

    def __init__(self, path: Path, stats: LedgerStats, on_committed: Committed | None = None) -> None:
        self.backlog = Backlog()
        self._path = path
        self._stats = stats
        self._on_committed = on_committed
        self._settled: deque[Pending] = deque()
        self._open_rows: deque[Row] = deque()
        self._jobs: deque[_Job] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._last_batch = 0
        self._give_up_at: float | None = None
        self._thread: threading.Thread | None = None

    async def start(self, deliver: Callable[[list[Pending]], None], in_flight: Callable[[], int]) -> None:
        """Open the database in the thread. Raises sqlite3.Error.

        `deliver` is called on the loop with each batch whose callers may go on; `in_flight` gives how many calls may
        settle soon.
        """
        self._deliver = deliver
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="ledger-writer", daemon=True)
        self._thread.start()
        try:
            await ready
        except asyncio.CancelledError:
            await self.close(0)
            raise

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def put(self, pending: Pending) -> None:
        """Write this record with the next commit."""
        self._settled.append(pending)
        if self._asleep:
            self._ring()

    def put_open(self, rows: list[Row]) -> None:
        """Write rows of calls that are still open."""
        self._open_rows.extend(rows)
        self._ring()

    async def run(self, *statements: sa.ClauseElement) -> list[Result]:
        """Run statements in one transaction: all or none. Raises sqlite3.IntegrityError or StorageUnavailable."""
        if not self.alive or self._give_up_at is not None:
            raise StorageUnavailable("The database is closed.")
        job = _Job([compiled(statement) for statement in statements], self._loop.create_future())
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

    def _main(self, ready: "asyncio.Future[None]") -> None:
        try:
            self._database = Database.open(self._path)
        except Exception as error:  # noqa: BLE001 - raised by start()
            self._tell(_fail, ready, error)
            return
        self._tell(_resolve, ready, None)
        try:
            while self._rest():
                self._linger()
                self._write_due()
                self._run_jobs()
        finally:
            self._abandon_rest()
            self._database.close()
            self._tell(self._ended.set)

    def _rest(self) -> bool:
        """Sleep until there is work: arrivals, a retry that is due, the end. False at the end."""
        self._asleep = True
        # Looked at after the flag is up: what is appended from here on rings the bell.
        wait = self._wait_seconds()
        if wait != 0:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=wait)
        self._asleep = False
        if self._give_up_at is None:
            return True
        idle = not (self._settled or self._open_rows or self._jobs or self.backlog.problem)
        return not idle and time.monotonic() < self._give_up_at

    def _wait_seconds(self) -> float | None:
        """How long there is nothing to do; None: for ever."""
        if self._settled or self._open_rows or self._jobs:
            return 0
        if not self.backlog.problem:
            return None if self._give_up_at is None else 0
        wait = self.backlog.wait_seconds(time.monotonic())
        return wait if self._give_up_at is None else min(wait, _CLOSING_RETRY_SECONDS)

    def _linger(self) -> None:
        """Let more settlements join the batch, while there are many. A fixed linger would hurt a single caller."""
        many = self._last_batch > LINGER_ABOVE or self._in_flight() > LINGER_ABOVE
        if many and self._settled and not self.backlog.problem and self._give_up_at is None:
            time.sleep(LINGER_SECONDS)

    def _write_due(self) -> None:
        open_rows = _drain(self._open_rows)
        pending = _drain(self._settled)
        self._last_batch = len(pending)
        if not self.backlog.problem:
            if open_rows or pending:
                self._commit(open_rows, pending)
            return
        self.backlog.shelve(open_rows, pending)
        self._let_go(pending)
        if self._give_up_at is None and self.backlog.wait_seconds(time.monotonic()):
            return
        with contextlib.suppress(sqlite3.Error):
            self._database.reopen()
        self._commit(*self.backlog.take(MOST_A_COMMIT))

    def _commit(self, open_rows: list[Row], pending: list[Pending]) -> None:
        records = [one.record for one in pending]
        started = time.perf_counter()
        try:
            unwritable = self._database.write(open_rows, records)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records must be kept and the callers let go
            self._refused(open_rows, pending, error)
            return
        self._stats.unwritable += unwritable
        self._stats.committed(len(pending) - unwritable, len(open_rows), time.perf_counter() - started)
        self._let_go(pending)
        if self.backlog.problem:
            self.backlog.taken()
            if not self.backlog.problem:
                LOG.warning("The database takes records again")
        self._report(records)

    def _refused(self, open_rows: list[Row], pending: list[Pending], error: Exception) -> None:
        if not self.backlog.problem:
            LOG.error("The database does not take records: %s", error)
        self._stats.failed_commits += 1
        self.backlog.refused(open_rows, pending, str(error) or type(error).__name__, time.monotonic())
        self._let_go(pending)

    def _let_go(self, pending: list[Pending]) -> None:
        if pending:
            self._tell(self._deliver, pending)

    def _report(self, records: list[Record]) -> None:
        if self._on_committed is None or not records:
            return
        try:
            self._on_committed(records)
        except Exception:
            self._stats.failed_hooks += 1
            LOG.exception("The hook after a commit failed")

    def _run_jobs(self) -> None:
        for job in _drain(self._jobs):
            try:
                results = self._database.run(job.statements)
            except sqlite3.IntegrityError as error:
                self._tell(_fail, job.result, error)
            except Exception as error:  # noqa: BLE001 - the caller's to hear, not the thread's to die of
                LOG.error("A change was not stored: %s", error)  # noqa: TRY400
                self._tell(_fail, job.result, StorageUnavailable("The database does not take changes at the moment."))
            else:
                self._tell(_resolve, job.result, results)

    def _abandon_rest(self) -> None:
        """The end, and storage still refuses: say what is lost, and keep nobody waiting."""
        rest = [*self.backlog.take(len(self.backlog))[1], *self._settled]
        if rest:
            self._stats.abandoned += len(rest)
            LOG.error("%d records were not stored before the end: %s", len(rest), self.backlog.problem)
            self._let_go(rest)
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
