"""The mock's own usage records: every call that it began to answer, how it ended and what it would bill."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from app.mock.book_file import BookFile
from app.mock.booked_call import BookedCall
from app.mock.call import MockCall
from app.mock.ids import Ids
from app.mock.models import find_model
from app.mock.usage import MockUsage
from app.private_files import UntrustedFile


@dataclass(slots=True)
class MockStats:
    """Counts since the start."""

    requests: int = 0  # POST to a responses route, refused ones too
    refused: int = 0  # answered with an error status, by fault or not
    open_streams: int = 0
    aborted: int = 0  # the caller left first
    cut: int = 0  # a fault broke the answer off
    connections: int = 0  # ever made
    open_connections: int = 0
    redirects_followed: int = 0
    redirects_with_key: int = 0


class MockBooks:
    """Keeps the newest calls, and totals of all calls since `since`. A `file` keeps them from one run to the next.

    The file is opened at the first use, when the gateway has locked the directory. If it cannot be used, the mock
    begins without the calls of former runs.
    """

    def __init__(self, most: int, clock: Callable[[], float], file: Path | None = None) -> None:
        self.stats = MockStats()
        self._clock = clock
        self._most = most
        self._path = file
        self._file: BookFile | None = None
        self._since = clock()
        self._entries: deque[BookedCall] = deque(maxlen=most)
        self._totals: Counter[str] = Counter()

    @property
    def since(self) -> float:
        """When the records begin."""
        self._begin()
        return self._since

    def _begin(self) -> None:
        """Read the calls of former runs, once."""
        path, self._path = self._path, None
        if path is None:
            return
        with contextlib.suppress(OSError, UntrustedFile):
            self._file = BookFile(path, self._since, self._most)
            self._since = self._file.since
            for entry in self._file.calls:
                self._entries.append(entry)
                self._count(entry)

    def open(self, call: MockCall, ids: Ids, *, path: str, full: MockUsage | None, faults: str = "") -> BookedCall:
        """Begin the record of a call."""
        self._begin()
        entry = BookedCall(
            id=ids.response,
            generation_id=ids.generation,
            path=path,
            dialect=call.dialect.name,
            model_requested=call.model,
            model=call.model_served,
            stream=call.stream,
            created_at=self._clock(),
            price=find_model(call.model_served),
            full=full,
            faults=faults,
        )
        self._entries.append(entry)
        return entry

    def close(self, entry: BookedCall, *, status: str, whole: bool) -> None:
        """End a call's record, once. If not `whole`, only the output so far is billed."""
        if entry.finished_at is not None:
            return
        entry.status, entry.finished_at = status, self._clock()
        if entry.full is not None:
            entry.usage = entry.full if whole else entry.full.after(entry.tokens)
            entry.cost_nanousd = entry.price.cost_nanousd(entry.usage)
        if status in ("aborted", "cut"):
            entry.aborted_at_event = entry.events
            setattr(self.stats, status, getattr(self.stats, status) + 1)
        self._count(entry)
        if self._file is not None:
            self._file.add(entry)

    def _count(self, entry: BookedCall) -> None:
        self._totals.update(calls=1, cost_nanousd=entry.cost_nanousd, total_tokens=entry.usage.total_tokens)
        self._totals.update(asdict(entry.usage))

    def find(self, identifier: str) -> BookedCall | None:
        """By generation id or response id."""
        self._begin()
        known = (entry for entry in reversed(self._entries) if identifier in (entry.generation_id, entry.id))
        return next(known, None)

    def __iter__(self) -> Iterator[BookedCall]:
        self._begin()
        return iter(self._entries)

    def totals(self) -> dict[str, int]:
        """Sums over all calls that are over."""
        self._begin()
        names = ("calls", *(part.name for part in fields(MockUsage)), "total_tokens", "cost_nanousd")
        return {name: self._totals[name] for name in names}

    def reset(self) -> None:
        """Forget the calls and the sums; open streams and connections stay counted."""
        self._begin()
        self._entries.clear()
        self._totals.clear()
        self._since = self._clock()
        if self._file is not None:
            self._file.reset(self._since)
        still = self.stats.open_streams, self.stats.open_connections
        self.stats = MockStats(open_streams=still[0], open_connections=still[1])
