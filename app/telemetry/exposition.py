"""The metrics page in Prometheus' text format, made from our counters at each scrape. The first scrape imports this."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

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
from app.telemetry.metric_table import METRICS, PREFIX

if TYPE_CHECKING:
    from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, help, type, and samples: name, labels, value."""


def render(metrics: "Metrics") -> tuple[bytes, str]:
    """The page and its content type. It has its own registry, so that no library adds metrics to it."""
    return generate_latest(_registry(metrics)), CONTENT_TYPE_PLAIN_0_0_4


def families(metrics: "Metrics") -> Iterator[Family]:
    """The numbers of the page, which can be added to those of other workers."""
    for family in _registry(metrics).collect():
        samples = [(sample.name, dict(sample.labels), sample.value) for sample in family.samples]
        yield family.name, family.documentation, family.type, samples


def page_of(numbers: Iterable[Family]) -> tuple[bytes, str]:
    """The page with these numbers, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _registry(metrics: "Metrics") -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GatewayCollector(metrics))
    ProcessCollector(registry=registry)
    return registry


class _Numbers(Collector):
    def __init__(self, numbers: Iterable[Family]) -> None:
        self._numbers = list(numbers)

    def collect(self) -> Iterator[Metric]:
        for name, text, kind, samples in self._numbers:
            family = Metric(name, text, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, labels, value)
            yield family


class GatewayCollector(Collector):
    """All metrics named `weighbridge_...`."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics, counts = self._metrics, self._metrics.counts()
        yield _family("requests", counts.requests)
        yield _family("tokens", counts.tokens)
        yield _family("cost_usd", {model: cost / NANOUSD_PER_USD for model, cost in counts.cost_nanousd.items()})
        yield _family("time_to_first_byte_seconds", metrics.time_to_first_byte.read())
        yield _family("request_duration_seconds", metrics.duration.read())
        yield _family("refusals", metrics.refusals)
        yield _family("meter_failures", metrics.meter_failures)
        yield _family("streams_in_flight", metrics.streams)
        yield _family("overhead_seconds", metrics.overhead.read())
        yield _family("event_loop_lag_seconds", metrics.loop_lag.read())
        for field in fields(metrics.gauges):
            gauge = getattr(metrics.gauges, field.name)
            if gauge is not None:
                yield _family(field.name, _read(field.name, gauge))


def _read(name: str, gauge: Callable[[], Any]) -> Any:  # noqa: ANN401 - a number, numbers by label, or a histogram
    """The gauge's value; not a number if it fails, so that the rest of the page is still served."""
    try:
        return gauge()
    except Exception:
        logger.exception("a gauge could not be read")
        spec = METRICS[name]
        return HistogramReading.of((), (0,), math.nan) if spec.kind == "histogram" else {} if spec.labels else math.nan


def _family(name: str, value: Any) -> Metric:  # noqa: ANN401 - see _read
    spec, full_name = METRICS[name], f"{PREFIX}{name}"
    if spec.kind == "histogram":
        buckets = list(zip(map(floatToGoString, value.bounds), value.cumulative, strict=True))
        return HistogramMetricFamily(full_name, spec.text, buckets, value.total)
    family = (CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily)(
        full_name, spec.text, labels=spec.labels
    )
    for labels, number in value.items() if spec.labels else [((), value)]:
        family.add_metric((labels,) if isinstance(labels, str) else labels, number)
    return family
