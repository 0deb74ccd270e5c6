"""The counters: plain integers, which app.telemetry.exposition turns into a Prometheus page at a scrape.

Two threads count and neither waits for the other: the event loop (refusals, streams, lag) and the ledger's writer
(everything in a settled record). prometheus_client's own objects would cost ten times as much a call.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

from app.domain.errors import ApiError
from app.domain.records import Outcome, Record, UsageSource
from app.telemetry.histogram import Histogram, HistogramReading, doubling
from app.telemetry.labels import OTHER, OUTCOMES, ROUTES, ModelLabels, reasons, route_of
from app.telemetry.line_budget import LineBudget
from app.telemetry.refusal_log import RefusalLog

CALL_SECONDS = doubling(0.01, 17)
"""10 ms to 11 minutes: from a cached answer to just over the default upstream timeout."""

SHORT_SECONDS = doubling(0.000025, 17)
"""25 us to 1.6 s: the time that the gateway itself takes."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Gauges:
    """Numbers that other parts own, by the metric's name. Read at each scrape, in any thread. None: no series."""

    ledger_queue_depth: Callable[[], int] | None = None
    ledger_commit_seconds: Callable[[], HistogramReading] | None = None
    ledger_spooled: Callable[[], int] | None = None  # records that went to the spool
    ledger_dropped: Callable[[], int] | None = None  # records lost for good
    ledger_keeps: Callable[[], bool] | None = None  # whether a record settled now would reach a disk
    unsettled_records: Callable[[], int] | None = None
    upstream_connections: Callable[[], Mapping[str, int]] | None = None  # by state
    log_writes_dropped: Callable[[], int] | None = None
    limiter_errors: Callable[[], Mapping[str, int]] | None = None  # by kind
    limiter_unjudged: Callable[[], Mapping[str, int]] | None = None  # calls, by result


@dataclass(slots=True, frozen=True)
class Counts:
    """The counters of settled calls at one moment. Money is in nano-dollars."""

    requests: Mapping[tuple[str, str], int]  # (route, outcome)
    tokens: Mapping[tuple[str, str], int]  # (model, kind)
    cost_nanousd: Mapping[str, int]  # model


class Metrics:
    """The gateway's `Observer`, and the ledger's hook for settled records.

    `known` tells whether the price book knows a model. All others are counted as `other`.
    """

    def __init__(self, known: Callable[[str], bool], gauges: Gauges | None = None) -> None:
        self.gauges = gauges or Gauges()
        self.streams = 0
        self.meter_failures = 0
        self.refusals = dict.fromkeys(reasons(), 0)
        self._refusal_log = RefusalLog(LineBudget())
        self.overhead = Histogram(SHORT_SECONDS)
        self.loop_lag = Histogram(SHORT_SECONDS)
        self.time_to_first_byte = Histogram(CALL_SECONDS)
        self.duration = Histogram(CALL_SECONDS)
        self._models = ModelLabels(known)
        self._requests = Counter({(route, outcome): 0 for route in ROUTES for outcome in OUTCOMES})
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._cost: Counter[str] = Counter()
        self._lock = Lock()

    # On the event loop:

    def refused(self, error_type: str) -> None:
        """Count an answer with one of our errors."""
        self.refusals[error_type if error_type in self.refusals else OTHER] += 1

    def request_refused(self, error: ApiError, address: str | None, request: str) -> None:
        """Count and log a request that was refused before it became a call."""
        self.refused(error.error_type)
        self._refusal_log.note(error, address, request)

    def streams_changed(self, delta: int) -> None:
        """Count a call that has begun (+1) or ended (-1)."""
        self.streams += delta

    def meter_failed(self) -> None:
        """Count an answer that the meter could not read."""
        self.meter_failures += 1

    def overhead_measured(self, seconds: float) -> None:
        """Note the time from a call's arrival until it was sent upstream."""
        self.overhead.observe(seconds)

    def loop_lagged(self, seconds: float) -> None:
        """Note how late a timer of the event loop fired."""
        self.loop_lag.observe(seconds)

    def amended(self, record: Record) -> None:
        """Count the tokens and the cost of a call whose usage came from upstream's records."""
        model = self._models.of(record)
        with self._lock:
            self._count_usage(record, model)

    # In the ledger's writer thread:

    def committed(self, records: Iterable[Record]) -> None:
        """Count settled records that are durable. Records in progress are skipped."""
        settled = [record for record in records if record.outcome is not Outcome.IN_PROGRESS]
        labelled = [(record, route_of(record.path), self._models.of(record)) for record in settled]
        with self._lock:
            for record, route, model in labelled:
                self._count(record, route, model)

    def _count(self, record: Record, route: str, model: str) -> None:
        self._requests[route, record.outcome.value] += 1
        if record.usage_source is not UsageSource.ESTIMATED or not record.has_usage_record:
            self._count_usage(record, model)
        if record.time_to_first_byte_ms is not None:
            self.time_to_first_byte.observe(record.time_to_first_byte_ms / 1000)
        if record.duration_ms is not None:
            self.duration.observe(record.duration_ms / 1000)

    def _count_usage(self, record: Record, model: str) -> None:
        """Count tokens and cost. An estimate that may be amended is not counted yet: counters cannot go down."""
        for kind, tokens in (
            ("input", record.input_tokens),
            ("cached_input", record.cached_input_tokens),
            ("cache_write", record.cache_write_tokens),
            ("output", record.output_tokens),
            ("reasoning", record.reasoning_tokens),
        ):
            if tokens:
                self._tokens[model, kind] += tokens
        if record.cost_nanousd:
            self._cost[model] += record.cost_nanousd

    # At a scrape, in any thread:

    def counts(self) -> Counts:
        """A consistent copy of the counters."""
        with self._lock:
            return Counts(dict(self._requests), dict(self._tokens), dict(self._cost))
