"""Counts of the ledger's work, for metrics and health."""

from bisect import bisect_left
from dataclasses import dataclass, field

COMMIT_BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets of commit times; one more bucket takes what is longer."""


def _empty_buckets() -> list[int]:
    return [0] * (len(COMMIT_BOUNDS_SECONDS) + 1)


@dataclass(slots=True)
class LedgerStats:
    """Only one thread changes each count (L: the loop's, W: the writer's), so none needs a lock."""

    taken: int = 0  # L: records handed over by settle()
    overflowed: int = 0  # L: of those, dropped because the queue was full
    released_early: int = 0  # L: callers that went on before their record was on disk
    settled: int = 0  # W: records in the database
    spooled: int = 0  # W: records in the spool instead, on disk as well
    replayed: int = 0  # W: records that came from the spool into the database, also those of an earlier process
    damaged: int = 0  # W: lines of the spool that could not be read and were set aside
    failed_spools: int = 0  # W: times that the spool began to refuse records, too
    interrupted: int = 0  # W: calls left open by ended processes, closed
    deleted: int = 0  # W: records deleted because they were too old
    unwritable: int = 0  # W: records that no database would take
    abandoned: int = 0  # W: records still unwritten when the deadline of close() came
    admitted: int = 0  # W: rows written for calls still open
    commits: int = 0  # W
    failed_commits: int = 0  # W: each is tried again
    failed_hooks: int = 0  # W: errors of `on_committed`
    commit_seconds: float = 0.0  # W: sum over all commits
    commit_seconds_last: float = 0.0  # W
    commit_buckets: list[int] = field(default_factory=_empty_buckets)  # W: not cumulative

    @property
    def queue_depth(self) -> int:
        """Records taken and neither on disk nor given up."""
        return self.taken - self.settled - self.spooled - self.overflowed - self.unwritable - self.abandoned

    @property
    def dropped(self) -> int:
        """Records lost for good."""
        return self.overflowed + self.unwritable + self.abandoned

    def committed(self, settled: int, admitted: int, seconds: float) -> None:
        """Count one commit."""
        self.settled += settled
        self.admitted += admitted
        self.commits += 1
        self.commit_seconds += seconds
        self.commit_seconds_last = seconds
        self.commit_buckets[bisect_left(COMMIT_BOUNDS_SECONDS, seconds)] += 1
