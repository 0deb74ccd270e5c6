"""The gauges that metrics read from other rooms at each scrape."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.gateway.usage_reconciler import UsageReconciler
from app.store.store import Store
from app.store.write.stats import COMMIT_BOUNDS_SECONDS
from app.telemetry.histogram import HistogramReading
from app.telemetry.logging import LogOutput
from app.telemetry.metrics import Gauges, Metrics
from app.upstream.wire.wire import UpstreamWire

if TYPE_CHECKING:
    from app.limits.redis.limiter import RedisLimiter


def gauges(
    store: Store,
    wire: UpstreamWire,
    log: LogOutput | None,
    reconciler: UsageReconciler | None,
    redis: "RedisLimiter | None",
) -> Gauges:
    """All gauges of one process."""
    stats = store.ledger.stats
    return Gauges(
        ledger_queue_depth=lambda: stats.queue_depth,
        ledger_commit_seconds=lambda: HistogramReading.of(
            COMMIT_BOUNDS_SECONDS, stats.commit_buckets.copy(), stats.commit_seconds
        ),
        ledger_spooled=lambda: stats.spooled,
        ledger_dropped=lambda: stats.dropped,
        ledger_keeps=lambda: store.ledger.keeps,
        unsettled_records=None if reconciler is None else lambda: reconciler.unsettled,
        log_writes_dropped=None if log is None else lambda: log.sink.dropped,
        upstream_connections=wire.connections,
        limiter_errors=None if redis is None else lambda: redis.errors,
        limiter_unjudged=None if redis is None else lambda: redis.unjudged,
    )


def metrics_page(metrics: Metrics) -> Callable[[], tuple[bytes, str]]:
    """A function that makes the Prometheus page and its content type.

    Its first call imports prometheus_client, about 50 ms: call it in a thread.
    """

    def render() -> tuple[bytes, str]:
        from app.telemetry import exposition

        return exposition.render(metrics)

    return render
