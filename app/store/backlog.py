"""The Backlog keeps what storage would not take, until it does. A spool file for the same records will stand here too.

It belongs to the writer's thread; other threads may read `problem`.
"""

from collections import deque
from collections.abc import Sequence

from app.store.pending import Pending
from app.store.rows import Row

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0
_MOST_OPEN_ROWS = 10_000


class Backlog:
    """In order of arrival. `problem` is what storage last said, None while all is well.

    How many records there may be is decided where they come in (BatchLedger.settle), so that nothing is dropped here.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._pending: deque[Pending] = deque()
        self._open_rows: deque[Row] = deque(maxlen=_MOST_OPEN_ROWS)
        self._delay = FIRST_RETRY_SECONDS
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._pending)

    def refused(self, open_rows: Sequence[Row], pending: Sequence[Pending], problem: str, now: float) -> None:
        """Storage would not take these; they go back to the head, and the next try waits twice as long as the last."""
        self.problem = problem
        self._open_rows.extendleft(reversed(open_rows))
        self._pending.extendleft(reversed(pending))
        self._retry_at = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_RETRY_SECONDS)

    def shelve(self, open_rows: Sequence[Row], pending: Sequence[Pending]) -> None:
        """These came while storage is in trouble."""
        self._open_rows.extend(open_rows)
        self._pending.extend(pending)

    def wait_seconds(self, now: float) -> float:
        """Until the next try; 0 when it is due."""
        return max(0.0, self._retry_at - now)

    def take(self, most: int) -> tuple[list[Row], list[Pending]]:
        """The oldest, at most `most` of each."""
        open_rows = [self._open_rows.popleft() for _ in range(min(most, len(self._open_rows)))]
        return open_rows, [self._pending.popleft() for _ in range(min(most, len(self._pending)))]

    def taken(self) -> None:
        """Storage took what take() gave. The rest follows at once; when there is none, the trouble is over."""
        self._retry_at = 0.0
        self._delay = FIRST_RETRY_SECONDS
        if not self._pending and not self._open_rows:
            self.problem = None
