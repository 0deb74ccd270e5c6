"""All metrics of the gateway in one table: the exposition and the tests of documents, alerts and dashboards read it."""

from typing import Literal, NamedTuple

PREFIX = "weighbridge_"


class MetricSpec(NamedTuple):
    """One metric: its type, its help text, and the names of its labels."""

    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


METRICS = {
    "requests": MetricSpec("counter", "Settled calls.", ("route", "outcome")),
    "tokens": MetricSpec(
        "counter",
        "Tokens of settled calls; cached_input and cache_write are parts of input, reasoning of output.",
        ("model", "kind"),
    ),
    "cost_usd": MetricSpec("counter", "Cost of settled calls in US dollars; for bills, ask the ledger.", ("model",)),
    "time_to_first_byte_seconds": MetricSpec("histogram", "From a call's start to the first byte of its answer."),
    "request_duration_seconds": MetricSpec("histogram", "From a call's start to its end."),
    "refusals": MetricSpec("counter", "Requests answered with our own errors, by error_type.", ("reason",)),
    "meter_failures": MetricSpec("counter", "Answers that were passed on and that the meter could not read."),
    "streams_in_flight": MetricSpec("gauge", "Calls under way."),
    "overhead_seconds": MetricSpec("histogram", "From a call's arrival until it is sent upstream."),
    "event_loop_lag_seconds": MetricSpec("histogram", "How late a timer of the event loop fires."),
    "ledger_queue_depth": MetricSpec("gauge", "Records waiting to be written."),
    "unsettled_records": MetricSpec("gauge", "Ended calls whose usage is being looked up in upstream's records."),
    "ledger_commit_seconds": MetricSpec("histogram", "Duration of the ledger's commits."),
    "ledger_spooled": MetricSpec("counter", "Records that went to the spool instead of the database."),
    "ledger_keeps": MetricSpec("gauge", "1 while a record that is settled now would reach a disk, else 0."),
    "ledger_dropped": MetricSpec("counter", "Records lost for good."),
    "upstream_connections": MetricSpec("gauge", "Connections to upstream.", ("state",)),
    "log_writes_dropped": MetricSpec("counter", "Log writes lost because the reader stopped reading."),
    "limiter_errors": MetricSpec("counter", "Failures of Redis, by kind.", ("kind",)),
    "limiter_unjudged": MetricSpec("counter", "Calls admitted or refused without Redis.", ("result",)),
}
"""By name, without PREFIX; counters also without the suffix `_total`."""
