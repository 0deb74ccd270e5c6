"""The backlog: rows in memory that neither the database nor the spool takes at the moment.

It belongs to the writer's thread.
"""

from collections import deque
from typing import TYPE_CHECKING, TypeVar

from app.store.write.batch import Batch

if TYPE_CHECKING:
    from app.store.schema.rows import Row
    from app.store.write.pending import Pending

_T = TypeVar("_T")
_MOST_ROWS = 10_000
"""Of open calls, and of amendments. Beyond that the oldest are dropped: settlements and later
amendments bring the same again."""


class Backlog:
    """In order of arrival.

    BatchLedger.settle limits how many settled records there may be, so that none is dropped here.
    """

    def __init__(self) -> None:
        self._open: deque[Row] = deque(maxlen=_MOST_ROWS)
        self._settled: deque[Pending] = deque()
        self._amended: deque[Row] = deque(maxlen=_MOST_ROWS)

    def __bool__(self) -> bool:
        return bool(self._settled or self._open or self._amended)

    def __len__(self) -> int:
        """How many settled records there are."""
        return len(self._settled)

    def add(self, batch: Batch) -> None:
        """Append rows."""
        self._open.extend(batch.open)
        self._settled.extend(batch.settled)
        self._amended.extend(batch.amended)

    def put_back(self, batch: Batch) -> None:
        """Put back what take() gave."""
        self._open.extendleft(reversed(batch.open))
        self._settled.extendleft(reversed(batch.settled))
        self._amended.extendleft(reversed(batch.amended))

    def take(self, most: int) -> Batch:
        """The oldest, at most so many of each kind. Amendments come last: the record may still be among the settled."""
        taken = Batch(_taken(self._open, most), _taken(self._settled, most))
        return taken if self._settled else Batch(taken.open, taken.settled, _taken(self._amended, most))


def _taken(queue: deque[_T], most: int) -> list[_T]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
