"""The metrics page: our counters put into Prometheus' words at the moment of a scrape. Imported by the first one."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.domain.money.amounts import NANOUSD_PER_USD
from app.telemetry.histogram import HistogramReading

if TYPE_CHECKING:
    from app.telemetry.metrics import Gauges, Metrics
    from app.telemetry.worker_metrics import Family

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


def render(metrics: "Metrics") -> tuple[bytes, str]:
    """The page and its content type; its own registry, so that nothing of anyone else's gets onto it."""
    return generate_latest(_registry(metrics)), CONTENT_TYPE_PLAIN_0_0_4


def families(metrics: "Metrics") -> "Iterator[Family]":
    """What the page says, as numbers that can be added to those of other workers."""
    for family in _registry(metrics).collect():
        samples = [(sample.name, dict(sample.labels), sample.value) for sample in family.samples]
        yield family.name, family.documentation, family.type, samples


def page_of(numbers: "Iterable[Family]") -> tuple[bytes, str]:
    """The page of these numbers and its content type."""
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _registry(metrics: "Metrics") -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GatewayCollector(metrics))
    ProcessCollector(registry=registry)
    return registry


class _Numbers(Collector):
    def __init__(self, numbers: "Iterable[Family]") -> None:
        self._numbers = list(numbers)

    def collect(self) -> Iterator[Metric]:
        for name, text, kind, samples in self._numbers:
            family = Metric(name, text, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, labels, value)
            yield family


class GatewayCollector(Collector):
    """Everything named `weighbridge_...`."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._settled()
        yield from self._seen_on_the_loop()
        yield from _owned_by_others(self._metrics.gauges)

    def _settled(self) -> Iterator[Metric]:
        counts = self._metrics.counts()
        yield _counter("requests", "Settled calls.", ("route", "outcome"), counts.requests.items())
        tokens_help = "Tokens of settled calls; cached_input and cache_write are parts of input, reasoning of output."
        yield _counter("tokens", tokens_help, ("model", "kind"), counts.tokens.items())
        dollars = [((model,), nanousd / NANOUSD_PER_USD) for model, nanousd in counts.cost_nanousd.items()]
        yield _counter(
            "cost_usd", "What settled calls cost, in US dollars; for bills, ask the ledger.", ("model",), dollars
        )
        ttfb_help = "From a call's start to the first byte of its answer."
        yield _histogram("time_to_first_byte_seconds", ttfb_help, self._metrics.time_to_first_byte.read())
        yield _histogram("request_duration_seconds", "From a call's start to its end.", self._metrics.duration.read())

    def _seen_on_the_loop(self) -> Iterator[Metric]:
        metrics = self._metrics
        refusals = [((reason,), count) for reason, count in metrics.refusals.items()]
        yield _counter("refusals", "Requests answered with an error of ours, by error_type.", ("reason",), refusals)
        yield _counter(
            "meter_failures", "Answers passed on that the meter could not read.", (), [((), metrics.meter_failures)]
        )
        yield _gauge("streams_in_flight", "Calls being relayed.", metrics.streams)
        yield _histogram(
            "overhead_seconds", "From a call's arrival to its leaving for upstream.", metrics.overhead.read()
        )
        yield _histogram("event_loop_lag_seconds", "How late a timer of the event loop fires.", metrics.loop_lag.read())


def _owned_by_others(gauges: "Gauges") -> Iterator[Metric]:
    if gauges.ledger_queue_depth is not None:
        yield _gauge("ledger_queue_depth", "Records waiting to be written.", _read(gauges.ledger_queue_depth, math.nan))
    if gauges.unsettled_records is not None:
        unsettled = _read(gauges.unsettled_records, math.nan)
        yield _gauge("unsettled_records", "Ended calls whose usage upstream's books are still asked for.", unsettled)
    if gauges.ledger_commits is not None:
        commits = _read(gauges.ledger_commits, HistogramReading.of((), (0,), math.nan))
        yield _histogram("ledger_commit_seconds", "How long the ledger's commits take.", commits)
    if gauges.ledger_spooled is not None:
        spooled = _read(gauges.ledger_spooled, math.nan)
        yield _counter("ledger_spooled", "Records that went to the spool, not the database.", (), [((), spooled)])
    if gauges.ledger_keeps is not None:
        keeps = _read(gauges.ledger_keeps, math.nan)
        yield _gauge("ledger_keeps", "1 while a record that is settled now would reach a disk, else 0.", keeps)
    if gauges.ledger_dropped is not None:
        dropped_records = _read(gauges.ledger_dropped, math.nan)
        yield _counter("ledger_dropped", "Records lost for good.", (), [((), dropped_records)])
    if gauges.upstream_connections is not None:
        family = GaugeMetricFamily(_name("upstream_connections"), "Connections to upstream.", labels=["state"])
        no_connections: Mapping[str, int] = {}
        for state, count in _read(gauges.upstream_connections, no_connections).items():
            family.add_metric([state], count)
        yield family
    if gauges.log_writes_dropped is not None:
        dropped = _read(gauges.log_writes_dropped, math.nan)
        yield _counter("log_writes_dropped", "Log writes lost because nobody read them.", (), [((), dropped)])
    yield from _of_the_limiter(gauges)


def _of_the_limiter(gauges: "Gauges") -> Iterator[Metric]:
    nothing: Mapping[str, int] = {}
    if gauges.limiter_errors is not None:
        errors = [((kind,), number) for kind, number in _read(gauges.limiter_errors, nothing).items()]
        yield _counter("limiter_errors", "What went wrong with Redis.", ("kind",), errors)
    if gauges.limiter_unjudged is not None:
        calls = [((result,), number) for result, number in _read(gauges.limiter_unjudged, nothing).items()]
        yield _counter("limiter_unjudged", "Calls whose limits could not be judged.", ("result",), calls)


def _read(gauge: Callable[[], Value], otherwise: Value) -> Value:
    """One broken gauge must not blind the operator to the rest."""
    try:
        return gauge()
    except Exception:
        logger.exception("a gauge could not be read")
        return otherwise


def _name(name: str) -> str:
    return f"weighbridge_{name}"


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(_name(name), text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_name(name), text, value)


def _histogram(name: str, text: str, reading: HistogramReading) -> HistogramMetricFamily:
    bounds = map(floatToGoString, reading.bounds)
    buckets = list(zip(bounds, reading.cumulative, strict=True))
    return HistogramMetricFamily(_name(name), text, buckets, reading.total)
