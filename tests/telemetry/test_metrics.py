import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Never

from prometheus_client.parser import text_string_to_metric_families

from app.domain.records import Outcome, Record, UsageSource
from app.telemetry.exposition import render
from app.telemetry.histogram import HistogramReading
from app.telemetry.labels import OTHER, reasons
from app.telemetry.metrics import Gauges, Metrics

if TYPE_CHECKING:
    from app.gateway.ports import Observer

GAUGES = Gauges(
    ledger_queue_depth=lambda: 3,
    ledger_commit_seconds=lambda: HistogramReading.of((0.1, 0.5), (4, 2, 1), 0.75),
    ledger_spooled=lambda: 5,
    ledger_dropped=lambda: 6,
    ledger_keeps=lambda: False,
    unsettled_records=lambda: 2,
    upstream_connections=lambda: {"idle": 4, "busy": 1},
    log_writes_dropped=lambda: 9,
)


def samples(metrics: Metrics) -> dict[str, float]:
    """Every series of the page, written as it is queried: `name{label="value",...}`, labels in order of their names."""
    page, content_type = render(metrics)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def known(model: str) -> bool:
    return model == "openai/gpt-5.5"


def test_what_upstreams_books_may_correct_is_counted_once_they_have_told(record: Record) -> None:
    """Counters only go up, and estimates are high."""
    metrics = Metrics(known)
    guess = replace(record, usage_source=UsageSource.ESTIMATED, input_tokens=900, cost_nanousd=9_000_000_000)
    metrics.committed([replace(guess, generation_id="gen-1")])
    assert "weighbridge_cost_usd_total" not in str(samples(metrics))
    metrics.amended(replace(guess, usage_source=UsageSource.SETTLED, input_tokens=7, cost_nanousd=1_000_000_000))
    model = f'model="{record.model_served}"'
    assert samples(metrics)[f'weighbridge_tokens_total{{kind="input",{model}}}'] == 7
    assert samples(metrics)[f"weighbridge_cost_usd_total{{{model}}}"] == 1
    metrics.committed([replace(guess, generation_id=None)])
    assert samples(metrics)[f'weighbridge_tokens_total{{kind="input",{model}}}'] == 907
    assert metrics.counts().requests["/responses", record.outcome.value] == 2


def test_settled_records_are_counted(record: Record) -> None:
    metrics = Metrics(known)
    failed = replace(record, outcome=Outcome.TRUNCATED, path="/responses/resp_1", model_served="x", cost_nanousd=None)
    metrics.committed([record, record, failed])
    seen = samples(metrics)
    assert seen['weighbridge_requests_total{outcome="completed",route="/responses"}'] == 2
    assert seen['weighbridge_requests_total{outcome="truncated",route="/responses/{id}"}'] == 1
    assert seen['weighbridge_tokens_total{kind="input",model="openai/gpt-5.5"}'] == 3046
    assert seen['weighbridge_tokens_total{kind="cached_input",model="openai/gpt-5.5"}'] == 2048
    assert seen['weighbridge_tokens_total{kind="output",model="other"}'] == 87
    assert seen['weighbridge_cost_usd_total{model="openai/gpt-5.5"}'] == 0.002469134
    assert seen["weighbridge_request_duration_seconds_count"] == 3
    assert seen['weighbridge_time_to_first_byte_seconds_bucket{le="0.32"}'] == 3
    assert seen['weighbridge_time_to_first_byte_seconds_bucket{le="0.16"}'] == 0


def test_what_is_unknown_is_not_counted(record: Record) -> None:
    metrics = Metrics(known)
    bare = Record("req", 0, "c", "k", "u", "/responses", outcome=Outcome.CLIENT_CLOSED)
    metrics.committed([bare, replace(record, outcome=Outcome.IN_PROGRESS)])
    seen = samples(metrics)
    assert sum(value for name, value in seen.items() if name.startswith("weighbridge_requests_total")) == 1
    assert not [name for name in seen if name.startswith(("weighbridge_tokens_total", "weighbridge_cost_usd_total"))]
    assert seen["weighbridge_request_duration_seconds_count"] == 0


def test_it_is_the_gateways_observer() -> None:
    metrics = Metrics(known)
    observer: Observer = metrics
    observer.streams_changed(1)
    observer.streams_changed(1)
    observer.streams_changed(-1)
    observer.refused("rate_limited")
    observer.refused("made up by upstream")
    observer.meter_failed()
    observer.overhead_measured(0.00015)
    metrics.loop_lagged(0.2)
    seen = samples(metrics)
    assert seen["weighbridge_streams_in_flight"] == 1
    assert seen['weighbridge_refusals_total{reason="rate_limited"}'] == 1
    assert seen[f'weighbridge_refusals_total{{reason="{OTHER}"}}'] == 1
    assert seen["weighbridge_meter_failures_total"] == 1
    assert seen['weighbridge_overhead_seconds_bucket{le="0.0002"}'] == 1
    assert seen["weighbridge_event_loop_lag_seconds_sum"] == 0.2


def test_gauges_are_read_at_each_scrape() -> None:
    depth = iter([5, 6])
    metrics = Metrics(known, replace(GAUGES, ledger_queue_depth=lambda: next(depth)))
    assert samples(metrics)["weighbridge_ledger_queue_depth"] == 5
    seen = samples(metrics)
    assert seen["weighbridge_ledger_queue_depth"] == 6
    assert seen["weighbridge_unsettled_records"] == 2
    assert [seen[f'weighbridge_ledger_commit_seconds_bucket{{le="{le}"}}'] for le in ("0.1", "0.5", "+Inf")] == [
        4,
        6,
        7,
    ]
    assert (seen["weighbridge_ledger_commit_seconds_count"], seen["weighbridge_ledger_commit_seconds_sum"]) == (7, 0.75)
    assert seen["weighbridge_ledger_dropped_total"] == 6
    assert (seen["weighbridge_ledger_spooled_total"], seen["weighbridge_ledger_keeps"]) == (5, 0)
    assert seen['weighbridge_upstream_connections{state="idle"}'] == 4
    assert seen["weighbridge_log_writes_dropped_total"] == 9


def test_a_broken_gauge_leaves_the_rest_readable() -> None:
    def broken() -> Never:
        raise RuntimeError("closed")

    gauges = Gauges(
        ledger_queue_depth=broken, ledger_commit_seconds=broken, upstream_connections=broken, ledger_dropped=broken
    )
    seen = samples(Metrics(known, replace(gauges, unsettled_records=lambda: 2)))
    assert seen["weighbridge_unsettled_records"] == 2
    assert str(seen["weighbridge_ledger_queue_depth"]) == "nan"


def test_series_exist_from_the_start_so_that_rates_see_the_first_event() -> None:
    seen = samples(Metrics(known))
    assert seen['weighbridge_requests_total{outcome="completed",route="/responses"}'] == 0
    assert {seen[f'weighbridge_refusals_total{{reason="{reason}"}}'] for reason in reasons()} == {0}


def test_ten_thousand_random_models_and_paths_leave_the_page_as_it_is(record: Record) -> None:
    dice = random.Random(7)
    metrics = Metrics(known, GAUGES)
    metrics.committed([record, replace(record, model_served="unheard of", path="/elsewhere")])
    series = set(samples(metrics))
    page = len(render(metrics)[0])
    for _ in range(100):
        names = [f"model-{dice.getrandbits(64):x}" for _ in range(100)]
        metrics.committed([replace(record, model_served=name, path=f"/{name}", error_type=name) for name in names])
        for name in names:
            metrics.refused(name)
    assert set(samples(metrics)) == series
    assert len(render(metrics)[0]) < page + 500  # the digits of the numbers


def test_no_key_becomes_a_label(record: Record, canary_key: str) -> None:
    metrics = Metrics(lambda model: model != canary_key)
    metrics.committed([replace(record, model_served=canary_key, path=f"/{canary_key}", key_id=canary_key)])
    metrics.refused(canary_key)
    assert canary_key not in render(metrics)[0].decode()


def test_scrapes_beside_counting_are_consistent(record: Record) -> None:
    metrics = Metrics(known)
    done = threading.Event()

    def count() -> None:
        for _ in range(300):
            metrics.committed([record] * 20)
        done.set()

    counting = threading.Thread(target=count)
    counting.start()
    while not done.is_set():
        counts = metrics.counts()
        requests = sum(counts.requests.values())
        assert requests % 20 == 0
        assert counts.cost_nanousd.get("openai/gpt-5.5", 0) == requests * 1_234_567
    counting.join()
    assert sum(metrics.counts().requests.values()) == 6000
