"""A writer of the ledger without a thread: it takes a turn when a test says so."""

from collections.abc import Callable
from pathlib import Path

from app.store.schema.rows import Row
from app.store.sqlite.backend import SqliteBackend
from app.store.write.batch import Batch
from app.store.write.ledger_database import LedgerDatabase
from app.store.write.maintenance import Maintenance
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from app.store.write.write_path import WritePath


class HandWriter:
    """What Writer does, without its thread: a turn when the test says so."""

    def __init__(self, path: Path, clock: Callable[[], float], let_go: Callable[[list[Pending], bool], None]) -> None:
        upkeep = Maintenance(None, lambda: 0)
        self.keeping = WritePath(SqliteBackend(path), LedgerStats(), let_go, upkeep, clock)
        database = self.keeping._database
        assert isinstance(database, LedgerDatabase)
        database.connection.wait_for_locks(patiently=False)  # nobody will let go of a lock while we wait
        database.connection.execute("PRAGMA synchronous=OFF")  # a process dies here, and no machine
        self._open: list[Row] = []
        self._settled: list[Pending] = []
        self._amended: list[Row] = []

    @property
    def keeps(self) -> bool:
        return self.keeping.keeps

    def put(self, pending: Pending) -> None:
        self._settled.append(pending)

    def put_open(self, rows: list[Row]) -> None:
        self._open += rows

    def put_amended(self, row: Row) -> None:
        self._amended.append(row)

    def turn(self) -> None:
        batch = Batch(self._open, self._settled, self._amended)
        self._open, self._settled, self._amended = [], [], []
        if batch:
            self.keeping.keep(batch)
        self.keeping.tend(idle=True)
