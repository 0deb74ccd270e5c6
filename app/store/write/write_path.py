"""The write path: a batch goes to the database; while that is in trouble, to the spool; else to memory.

    arrivals ──▶ database ──refused──▶ spool ──refused──▶ backlog in memory
                    ▲                    │                   │
                    └──── replayed ──────┴───────────────────┘   once the database takes records again

A start first replays the spool of the earlier process, and then closes the calls that it left open: a call may be open
in the database and settled in the spool. Until that is done new records go to the spool.
"""

import logging
import time
from collections.abc import Callable

from app.domain.records import Outcome
from app.private_files import UntrustedFile
from app.store.schema.rows import OUTCOME_AT
from app.store.schema.sql import Result, SqlStatement
from app.store.spool.spool import Spool
from app.store.write.backend import Backend, ErrorKind
from app.store.write.backlog import Backlog
from app.store.write.batch import Batch
from app.store.write.ledger_database import LedgerDatabase
from app.store.write.maintenance import Maintenance
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats

LOG = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0
RECOVERY_SECONDS = 1.0
"""How long a start replays the spool of an earlier process; the rest is replayed while calls are served."""
WATCH_SECONDS = 1.0
SPOOL_RETRY_SECONDS = 0.1
"""How often the spool is tried while it refuses: rows in memory are lost when the process is killed."""
_MOST_A_STEP = 500


class WritePath:
    """Belongs to the writer's thread; `problem`, `keeps` and `waiting` may be read by others.

    `let_go` is called with records whose callers may go on, and whether they are on disk.
    """

    def __init__(  # noqa: PLR0913 - what it keeps by, and for whom
        self,
        backend: Backend,
        stats: LedgerStats,
        let_go: Callable[[list[Pending], bool], None],
        maintenance: Maintenance,
        clock: Callable[[], float] = time.monotonic,
        *,
        reserves: bool = False,
    ) -> None:
        """Open the database, and replay the spool of an earlier process. Raises what the driver raises.

        `reserves`: allocate the spool's room beforehand, as a server does.
        """
        self.problem: str | None = None  # what the database last said; None while all is well
        self.spool_problem: str | None = None  # what the spool last said
        self._backend = backend
        self._stats = stats
        self._let_go = let_go
        self._maintenance = maintenance
        self._clock = clock
        self._backlog = Backlog()
        self._recovered = False
        self._delay = FIRST_RETRY_SECONDS
        self._retry_at = self._spool_retry_at = 0.0
        self._reserves = reserves
        self._without_reserve = False  # and that was told
        self._watch_at = self._clock() + WATCH_SECONDS
        self._spool = Spool(backend.state_dir)
        self._database = LedgerDatabase(backend)
        self._set_room_aside()
        try:
            self._recover(self._clock() + RECOVERY_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def keeps(self) -> bool:
        """Whether a record that comes now would reach a disk."""
        return self.spool_problem is None or (self.problem is None and self._recovered)

    @property
    def waiting(self) -> bool:
        """Whether there are records that are not in the database yet, or open calls of an earlier process to close."""
        return bool(self._spool or self._backlog) or not self._recovered

    @property
    def unfinished(self) -> bool:
        """Whether an end now would lose records, or leave to the next process what can be done at once."""
        return bool(self._backlog) or (self.problem is None and bool(self._spool))

    def keep(self, batch: Batch) -> None:
        """Store a batch, and let its callers go on."""
        if self.problem is not None or not self._recovered:
            self._put_aside(batch)
            return
        if batch.amended and self.waiting:  # what they amend may be waiting: they must not overtake it
            self._put_aside(Batch(amended=batch.amended))
            batch = Batch(batch.open, batch.settled)
        try:
            self._commit(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, records must be kept and callers go on
            self._refused(error)
            self._put_aside(batch)

    def run(self, statements: list[SqlStatement], *, reads: bool) -> list[Result]:
        """Run statements in one transaction. Raises what the driver raises."""
        return self._database.run(statements, reads=reads)

    def wait_seconds(self) -> float:
        """Until tend() has something to do."""
        now = self._clock()
        if self.problem is not None:
            due = min(self._retry_at, self._spool_retry_at) if self._backlog else self._retry_at
            return max(0.0, due - now)
        if self.waiting:
            return 0.0
        return min(max(0.0, self._watch_at - now), self._maintenance.wait_seconds(now))

    def tend(self, *, idle: bool) -> None:
        """Take one step of what is due: retry, replay, watch or maintenance. `idle`: no new rows wait."""
        now = self._clock()
        if self.problem is not None:
            if self._backlog and now >= self._spool_retry_at:
                self._spool_backlog()
            if now >= self._retry_at:
                self._retry()
        elif self.waiting:
            self._attempt(self._replay_some)
        elif now >= self._watch_at:
            self._watch_at = now + WATCH_SECONDS
            self._attempt(self._watch)
        elif self._maintenance.due(now, idle=idle):
            self._take_care(now)

    def hasten(self) -> None:
        """The process is about to end: try again soon."""
        self._retry_at = min(self._retry_at, self._clock() + FIRST_RETRY_SECONDS / 2)

    def abandon(self) -> int:
        """Give up the backlog. Gives how many settled records are lost."""
        if self._backlog and self.spool_problem is not None:
            self._spool_backlog()  # for the last time
        return len(self._backlog)

    def close(self) -> None:
        """Close the files."""
        self._spool.close()
        self._database.close()

    def _recover(self, until: float) -> None:
        while not self._recovered and self.problem is None and self._clock() < until:
            try:
                self._replay_some()
            except Exception as error:
                if self._backend.kind_of(error) is ErrorKind.DAMAGED:
                    raise
                self._refused(error)

    def _commit(self, batch: Batch) -> None:
        started = time.perf_counter()
        unwritable = self._database.write(batch.rows())
        self._stats.unwritable += unwritable
        self._stats.committed(len(batch.settled) - unwritable, len(batch.open), time.perf_counter() - started)
        self._kept(batch)

    def _kept(self, batch: Batch) -> None:
        if batch.settled:
            self._let_go(list(batch.settled), True)

    def _put_aside(self, batch: Batch) -> None:
        self._backlog.add(batch)
        if self.spool_problem is None:
            self._spool_backlog()
        if batch.settled and self._backlog:  # not durable, but nothing more can be done for the callers
            self._let_go(list(batch.settled), False)

    def _spool_backlog(self) -> None:
        while batch := self._backlog.take(_MOST_A_STEP):
            try:
                self._spool.append(batch.rows())
            except Exception as error:  # noqa: BLE001 - as above
                self._backlog.put_back(batch)
                if self.spool_problem is None:
                    LOG.critical("The spool does not take records either; they wait in memory: %s", error)
                    self._stats.failed_spools += 1
                self.spool_problem = str(error) or type(error).__name__
                self._spool_retry_at = self._clock() + SPOOL_RETRY_SECONDS
                return
            self.spool_problem = None
            self._stats.spooled += len(batch.settled)
            self._kept(batch)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - as above
            self._refused(error)

    def _watch(self) -> None:
        self._stats.interrupted += self._database.watch()
        try:
            self._set_room_aside()
        except UntrustedFile as error:  # planted while the server runs; the next start refuses it
            LOG.error("The spool sets no room aside: %s", error)  # noqa: TRY400

    def _set_room_aside(self) -> None:
        if not self._reserves:
            return
        try:
            self._spool.set_room_aside()
        except OSError as error:
            if not self._without_reserve:
                LOG.warning("The spool has no room set aside: while the disk is full it takes no records: %s", error)
            self._without_reserve = True
        else:
            self._without_reserve = False

    def _refused(self, error: Exception) -> None:
        if self.problem is None:
            LOG.error("The database does not take records; they go to the spool: %s", error)
            self._database.connection.wait_for_locks(patiently=False)
        self._stats.failed_commits += 1
        self.problem = str(error) or type(error).__name__
        self._retry_at = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_RETRY_SECONDS)

    def _retry(self) -> None:
        try:
            self._database.connection.reopen()
            self._replay_some()
        except Exception as error:  # noqa: BLE001 - as above
            self._refused(error)
            return
        LOG.warning("The database takes records again")
        self._database.connection.wait_for_locks(patiently=True)
        self.problem = self.spool_problem = None
        self._delay = FIRST_RETRY_SECONDS

    def _replay_some(self) -> None:
        """Write the oldest waiting rows to the database. Raises what the driver raises."""
        if not self._recovered and not self._spool.inherited:
            self._stats.interrupted += self._database.close_interrupted()
            self._recovered = True
        elif self._spool:
            rows = self._spool.read(_MOST_A_STEP)
            unwritable = self._database.write(rows)
            self._spool.done()
            self._stats.replayed += len(rows.settled) - unwritable
            self._stats.interrupted += sum(row[OUTCOME_AT] == Outcome.INTERRUPTED for row in rows.settled)
            self._stats.damaged = self._spool.damaged
        elif self._backlog:
            self._commit_backlog()

    def _commit_backlog(self) -> None:
        batch = self._backlog.take(_MOST_A_STEP)
        try:
            self._commit(batch)
        except BaseException:
            self._backlog.put_back(batch)
            raise

    def _take_care(self, now: float) -> None:
        try:
            self._stats.deleted += self._maintenance.step(self._database, now)
        except Exception as error:  # noqa: BLE001 - calls do not depend on it; it is tried again later
            LOG.warning("The maintenance of the ledger has to wait: %s", error)
