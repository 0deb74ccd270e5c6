"""The mock's own books: every call that it began to answer, what came of it and what it would bill."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from app.mock.call import MockCall
from app.mock.ids import Ids
from app.mock.models import MockModel, find_model
from app.mock.usage import MockUsage

_INNER = ("price", "full", "usage")


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


@dataclass(slots=True)
class BookedCall:
    """One call. `usage` is what is owed so far; times are seconds since 1970."""

    id: str
    generation_id: str
    path: str
    dialect: str
    model_requested: str
    model: str
    stream: bool
    created_at: float
    price: MockModel
    full: MockUsage | None  # owed for the whole answer
    status: str = "in_progress"
    usage: MockUsage = field(default_factory=MockUsage)
    cost_nanousd: int = 0
    reported: bool = False  # the caller was told the usage
    terminal_sent: bool = False
    events: int = 0  # sent whole; a JSON answer counts as two
    tokens: int = 0
    aborted_at_event: int | None = None
    finished_at: float | None = None
    faults: str = ""

    def json(self) -> dict[str, Any]:
        """As GET /_mock/books shows it."""
        shown = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _INNER}
        return shown | asdict(self.usage) | {"total_tokens": self.usage.total_tokens, "finished": self.terminal_sent}


class MockBooks:
    """Keeps the newest calls; the totals are of all."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.stats = MockStats()
        self._entries: deque[BookedCall] = deque(maxlen=most)
        self._totals: Counter[str] = Counter()
        self._clock = clock

    def open(self, call: MockCall, ids: Ids, *, path: str, full: MockUsage | None, faults: str = "") -> BookedCall:
        """A call is being answered."""
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
        """The call is over, once. Not `whole`: only what was made so far is billed."""
        if entry.finished_at is not None:
            return
        entry.status, entry.finished_at = status, self._clock()
        if entry.full is not None:
            entry.usage = entry.full if whole else entry.full.after(entry.tokens)
            entry.cost_nanousd = entry.price.cost_nanousd(entry.usage)
        if status in ("aborted", "cut"):
            entry.aborted_at_event = entry.events
            setattr(self.stats, status, getattr(self.stats, status) + 1)
        self._totals.update(calls=1, cost_nanousd=entry.cost_nanousd, total_tokens=entry.usage.total_tokens)
        self._totals.update(asdict(entry.usage))

    def find(self, identifier: str) -> BookedCall | None:
        """By generation id or response id."""
        known = (entry for entry in reversed(self._entries) if identifier in (entry.generation_id, entry.id))
        return next(known, None)

    def __iter__(self) -> Iterator[BookedCall]:
        return iter(self._entries)

    def totals(self) -> dict[str, int]:
        """Sums over all calls that are over."""
        names = ("calls", *(part.name for part in fields(MockUsage)), "total_tokens", "cost_nanousd")
        return {name: self._totals[name] for name in names}

    def reset(self) -> None:
        """Forget the calls and the sums; open streams and connections stay counted."""
        self._entries.clear()
        self._totals.clear()
        still = self.stats.open_streams, self.stats.open_connections
        self.stats = MockStats(open_streams=still[0], open_connections=still[1])
