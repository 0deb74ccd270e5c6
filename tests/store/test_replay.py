"""What an earlier process left is replayed step by step beside calls; until all of it is seen to, the store says so."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

from app.store.schema.rows import open_row_of
from app.store.sqlite.backend import SqliteBackend
from app.store.write.batch import Batch
from app.store.write.maintenance import Maintenance
from app.store.write.pending import Pending
from app.store.write.stats import LedgerStats
from app.store.write.write_path import WritePath
from tests.store.samples import Samples, make_database, stored


def test_while_a_call_of_a_dead_process_is_open_the_replay_is_not_over(tmp_path: Path) -> None:
    path, samples = make_database(tmp_path), Samples()
    open_call, spooled_open, spooled = samples.open(), samples.open(), samples.settled()
    left = WritePath(SqliteBackend(path), LedgerStats(), lambda *_: None, Maintenance(None, lambda: 0))
    left.keep(Batch(open=[open_row_of(open_call)]))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        left.keep(Batch(open=[open_row_of(spooled_open)], settled=[Pending(spooled, None, 0.0)]))
        left.close()
    hours = itertools.count(0, 3600)  # so that the start leaves all of it for later
    keeping = WritePath(
        SqliteBackend(path), LedgerStats(), lambda *_: None, Maintenance(None, lambda: 0), lambda: next(hours)
    )
    steps = 0
    while keeping.waiting:
        steps += 1
        keeping.tend(idle=False)
    keeping.close()
    assert steps >= 3
    assert stored(tmp_path) == {
        open_call.request_id: "interrupted",
        spooled_open.request_id: "interrupted",
        spooled.request_id: "completed",
    }
