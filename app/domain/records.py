"""A Record is one exchange in the ledger: what was called, what came of it, what it weighed.

Units: times are integer microseconds since 1970 UTC, durations float milliseconds, money integer
nano-dollars (1e-9 US dollar), sizes bytes. ``None`` means unknown, never zero.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.money.worst_case import WorstCase


class Outcome(StrEnum):
    """How an exchange ended. Closed set: reports, metrics and clients of `usage --json` rely on it."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CLIENT_CLOSED = "client_closed"
    TRUNCATED = "truncated"  # upstream broke off before its terminal event
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    REJECTED = "rejected"  # refused by us, before upstream was asked
    INTERRUPTED = "interrupted"  # we stopped or crashed
    IN_PROGRESS = "in_progress"


NOTHING_TO_TELL = frozenset((Outcome.IN_PROGRESS, Outcome.REJECTED, Outcome.UPSTREAM_ERROR))
"""Where upstream's books have nothing to add: the call is not over, or upstream did not begin to work."""


class UsageSource(StrEnum):
    """Where the token counts come from."""

    REPORTED = "reported"
    SETTLED = "settled"  # from upstream's books, afterwards
    ESTIMATED = "estimated"
    NONE = "none"


class CostSource(StrEnum):
    """Where the cost comes from; absent when the cost is unknown."""

    REPORTED = "reported"
    PRICED = "priced"
    ESTIMATED = "estimated"


class Book(StrEnum):
    """The two books of the ledger: calls that cost money, and calls of `serve --demo`, which cost play money."""

    REAL = "real"
    DEMO = "demo"


DEMO_UPSTREAM = "mock"
"""The upstream inside `serve --demo`. No other may have this name: roll-ups, which know a call's upstream, keep the
books apart by it."""


def book_of(upstream: str) -> Book:
    """The book of the calls of an upstream."""
    return Book.DEMO if upstream == DEMO_UPSTREAM else Book.REAL


HTTP = "http"
"""The transport of a call that is one HTTP request."""


@dataclass(slots=True)
class Record:
    """One exchange. Opened at admission, changed only by the exchange that owns it, settled once."""

    request_id: str
    started_at: int
    client: str
    key_id: str
    upstream: str
    path: str
    method: str = "POST"
    finished_at: int | None = None
    model_requested: str | None = None
    model_served: str | None = None
    stream: bool = False
    background: bool = False  # upstream goes on with it without us, and its response tells the usage later
    http_status: int | None = None  # what the client was answered
    outcome: Outcome = Outcome.IN_PROGRESS
    usage_source: UsageSource = UsageSource.NONE
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    cost_nanousd: int | None = None
    cost_source: CostSource | None = None
    price: str | None = None  # the price the cost was made with, as JSON (Price.as_json)
    response_id: str | None = None
    generation_id: str | None = None
    retry_count: int = 0  # our own repeats towards upstream
    bytes_in: int = 0  # request body as forwarded
    bytes_out: int = 0  # answer body as passed on
    time_to_first_byte_ms: float | None = None
    duration_ms: float | None = None
    error_type: str | None = None
    transport: str = HTTP
    upstream_key: str | None = None  # the name of the upstream key that was used
    error_detail: str | None = None  # one sentence on why the call failed; never holds a secret
    cost_detail: str | None = None  # what the cost does not cover
    upstream_request_id: str | None = None  # upstream's own `x-request-id`
    tries: str | None = None  # what each try upstream came to, as JSON: a list of objects
    session: str | None = None
    program: str | None = None  # product name of the caller's user agent
    tags: str | None = None  # as JSON: an object of text to text
    phases_ms: str | None = None  # as JSON: an object of phase name to milliseconds
    demo: bool = False  # a call of `serve --demo`: play money
    worst_case: WorstCase | None = None  # while a call with a budget is open: what it counts for should we die
    service_tier: str | None = None  # while it is open: what the call asked for
    max_output_tokens: int | None = None  # while it is open: as the call has it
    held: bool = False  # nobody has told what it came to, and so it counts by its worst case

    def count_worst_case(self, worst: WorstCase) -> None:
        """Nobody has told what the call came to: it counts by what was set aside for it, until somebody does."""
        self.held = True
        self.usage_source = UsageSource.ESTIMATED
        self.input_tokens, self.output_tokens, self.total_tokens = worst.input_tokens, worst.output_tokens, worst.tokens
        self.cost_nanousd = worst.cost_nanousd
        self.cost_source = None if worst.cost_nanousd is None else CostSource.ESTIMATED

    @property
    def has_books(self) -> bool:
        """Whether upstream's books may tell afterwards what it weighed: they know it by one id or the other."""
        return self.generation_id is not None or (self.background and self.response_id is not None)
