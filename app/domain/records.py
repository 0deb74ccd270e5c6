"""A Record is one exchange in the ledger: what was called, how it ended, what it used and cost.

Units: times are integer microseconds since 1970 UTC, durations float milliseconds, money integer
nano-dollars (1e-9 US dollar), sizes bytes. ``None`` means unknown, never zero.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.money.worst_case import WorstCase


class Outcome(StrEnum):
    """How an exchange ended. Reports, metrics and readers of `usage --json` rely on this closed set."""

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
"""Outcomes for which upstream's usage records have nothing to add: the call is open, or upstream did no work."""


class UsageSource(StrEnum):
    """Where the token counts come from."""

    REPORTED = "reported"
    SETTLED = "settled"  # from upstream's usage records, after the end
    ESTIMATED = "estimated"
    NONE = "none"


class CostSource(StrEnum):
    """Where the cost comes from; None if the cost is unknown."""

    REPORTED = "reported"
    PRICED = "priced"
    ESTIMATED = "estimated"


class Book(StrEnum):
    """The two parts of the ledger: calls that cost money, and calls of `serve --demo`, which do not."""

    REAL = "real"
    DEMO = "demo"


DEMO_UPSTREAM = "mock"
"""The upstream inside `serve --demo`. No other may have this name: roll-ups know a call's Book by it."""


def book_of(upstream: str) -> Book:
    """The Book of an upstream's calls."""
    return Book.DEMO if upstream == DEMO_UPSTREAM else Book.REAL


HTTP = "http"
"""The transport of a call that is one HTTP request."""


@dataclass(slots=True)
class Record:
    """One exchange. Only the exchange that owns it changes it, from admission to its one settlement."""

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
    background: bool = False  # upstream works on without us, and its stored response tells the usage later
    http_status: int | None = None  # the status that the client got
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
    price: str | None = None  # the price that made the cost, as JSON (Price.as_json)
    response_id: str | None = None
    generation_id: str | None = None
    retry_count: int = 0  # how often we sent it again
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
    demo: bool = False  # a call of `serve --demo`
    worst_case: WorstCase | None = None  # while a call with a budget is open: what it counts for if the process dies
    service_tier: str | None = None  # while it is open: what the call asked for
    max_output_tokens: int | None = None  # while it is open: what the call asked for
    held: bool = False  # its cost is unknown, so that it counts by its worst case

    def count_worst_case(self, worst: WorstCase) -> None:
        """Count the call by its worst case until its cost is known."""
        self.held = True
        self.usage_source = UsageSource.ESTIMATED
        self.input_tokens, self.output_tokens, self.total_tokens = worst.input_tokens, worst.output_tokens, worst.tokens
        self.cost_nanousd = worst.cost_nanousd
        self.cost_source = None if worst.cost_nanousd is None else CostSource.ESTIMATED

    @property
    def has_usage_record(self) -> bool:
        """Whether the record has an id by which upstream's usage records can be asked about it."""
        return self.generation_id is not None or (self.background and self.response_id is not None)
