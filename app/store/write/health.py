"""The health of a store, for operators and for admission."""

from dataclasses import dataclass

from app.store.write.ledger import BatchLedger
from app.store.write.writer import Writer


@dataclass(slots=True, frozen=True)
class StoreHealth:
    """`problem` says what is wrong, for operators. Calls are served all the same.

    `keeps`: records reach a disk, in the database or in the spool. Else they wait in memory, and calls whose records
    must not be lost should be refused. `spooled`: some records are not in the database yet.
    """

    ok: bool
    problem: str | None
    queue_depth: int
    dropped: int
    keeps: bool
    spooled: bool
    ended: bool = False  # nothing will be written any more by this process

    @classmethod
    def of(cls, writer: Writer, ledger: BatchLedger) -> "StoreHealth":
        """The state right now. Touches no file."""
        stats = ledger.stats
        problem = writer.problem
        if not writer.alive:
            problem = "the ledger's writer has ended"
        elif problem is None and ledger.overdue():
            problem = "a commit takes longer than 2 s"
        return cls(
            ok=problem is None,
            problem=problem,
            queue_depth=stats.queue_depth,
            dropped=stats.dropped,
            keeps=ledger.keeps,
            spooled=writer.replaying,
            ended=not writer.alive,
        )
