"""A batch: the rows that arrived while the writer was busy, and that one transaction writes."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.store.schema.rows import Row, Rows, row_of
from app.store.write.pending import Pending


@dataclass(slots=True, frozen=True)
class Batch:
    """In order of arrival. The open row of a call that is settled here may be here too, or in an earlier batch."""

    open: Sequence[Row] = ()
    settled: Sequence[Pending] = ()
    amended: Sequence[Row] = ()

    def __bool__(self) -> bool:
        return bool(self.settled or self.open or self.amended)

    def rows(self) -> Rows:
        """As the database takes them."""
        return Rows(self.open, [row_of(pending.record) for pending in self.settled], self.amended)
