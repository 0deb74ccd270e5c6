"""The numbers of several workers, told by one of them."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.domain.records import Record
from app.telemetry.exposition import render
from app.telemetry.metrics import Gauges, Metrics
from app.telemetry.worker_metrics import FILE_NAME, WorkerMetrics

Number = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def dead() -> int:
    """The id of a process that is no more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def worker(state_dir: Path, number: int, metrics: Metrics) -> WorkerMetrics:
    folder = state_dir / f"worker-{number}"
    folder.mkdir(exist_ok=True)
    return WorkerMetrics(metrics, folder)


def made(**gauges: float) -> Metrics:
    return Metrics(lambda _: True, Gauges(**{name: lambda value=value: value for name, value in gauges.items()}))


def numbers(siblings: WorkerMetrics) -> Number:
    return parsed(siblings.render()[0])


def parsed(page: bytes) -> Number:
    families = text_string_to_metric_families(page.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(siblings: WorkerMetrics, name: str, **labels: str) -> float:
    return numbers(siblings)[f"weighbridge_{name}", tuple(sorted(labels.items()))]


def mark_dead(state_dir: Path, number: int, pid: int) -> None:
    path = state_dir / f"worker-{number}" / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": pid}))


@given(st.lists(st.lists(st.floats(0, 700), max_size=6), min_size=1, max_size=4))
def test_the_sum_of_the_pages_is_the_page_of_one_that_did_it_all(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[float]]
) -> None:
    state_dir, alone = tmp_path_factory.mktemp("sum"), made()
    workers = []
    for number, seconds in enumerate(calls):
        metrics = made()
        for one in seconds:
            for counting in (metrics, alone):
                counting.refused("rate_limited")
                counting.streams_changed(1)
                counting.overhead_measured(one)
        workers.append(worker(state_dir, number, metrics))
        numbers(workers[-1])
    wanted = parsed(render(alone)[0])
    for one_of_them in workers:
        found = numbers(one_of_them)
        assert found.keys() == wanted.keys()
        for (name, labels), expected in wanted.items():
            if name.startswith("weighbridge_"):
                assert math.isclose(found[name, labels], expected, abs_tol=1e-6), name


def test_who_takes_the_place_of_a_dead_worker_goes_on_from_its_numbers(
    tmp_path: Path, dead: int, record: Record
) -> None:
    one, first = made(), made(ledger_queue_depth=7)
    first.committed([record])
    first.streams_changed(3)
    asked = worker(tmp_path, 1, one)
    numbers(worker(tmp_path, 2, first))
    assert (value(asked, "streams_in_flight"), value(asked, "ledger_queue_depth")) == (3, 7)
    mark_dead(tmp_path, 2, dead)
    assert value(asked, "requests_total", route="/responses", outcome=record.outcome.value) == 1
    assert value(asked, "streams_in_flight") == 0
    second = made()
    second.committed([record])
    successor = worker(tmp_path, 2, second)
    for _ in range(2):
        numbers(successor)
    assert value(asked, "requests_total", route="/responses", outcome=record.outcome.value) == 2
    assert value(asked, "request_duration_seconds_count") == 2


def test_a_file_that_is_not_there_or_not_whole_hides_nobody_else(tmp_path: Path) -> None:
    metrics = made()
    metrics.refused("rate_limited")
    asked = worker(tmp_path, 1, metrics)
    (tmp_path / "worker-2").mkdir()
    (tmp_path / "worker-3").mkdir()
    (tmp_path / "worker-3" / FILE_NAME).write_text('{"pid":')
    assert value(asked, "refusals_total", reason="rate_limited") == 1


def test_all_must_keep_for_the_ledger_to_keep(tmp_path: Path) -> None:
    asked = worker(tmp_path, 1, made(ledger_keeps=1))
    numbers(worker(tmp_path, 2, made(ledger_keeps=0)))
    assert value(asked, "ledger_keeps") == 0


def test_what_all_see_is_not_counted_twice_and_what_one_cannot_tell_hides_nothing(tmp_path: Path) -> None:
    asked = worker(tmp_path, 1, made(unsettled_records=60, ledger_queue_depth=2))
    numbers(worker(tmp_path, 2, made(unsettled_records=60, ledger_queue_depth=math.nan)))
    assert (value(asked, "unsettled_records"), value(asked, "ledger_queue_depth")) == (60, 2)


def test_a_new_parent_begins_at_nothing(tmp_path: Path) -> None:
    metrics = made()
    metrics.refused("rate_limited")
    numbers(worker(tmp_path, 1, metrics))
    WorkerMetrics.forget(tmp_path)
    assert value(worker(tmp_path, 1, made()), "refusals_total", reason="rate_limited") == 0


async def test_it_writes_by_itself_and_once_more_in_the_end(tmp_path: Path) -> None:
    metrics = made()
    one = worker(tmp_path, 1, metrics)
    one.start()
    metrics.refused("rate_limited")
    await one.close()
    assert json.loads((tmp_path / "worker-1" / FILE_NAME).read_text())["pid"] == os.getpid()
    assert value(worker(tmp_path, 2, made()), "refusals_total", reason="rate_limited") == 1


async def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = worker(tmp_path, 1, made())
    (tmp_path / "worker-1").rmdir()
    one.start()
    await one.close()
    assert value(one, "streams_in_flight") == 0
    assert "cannot be written" in caplog.text
