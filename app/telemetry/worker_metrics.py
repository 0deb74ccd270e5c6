"""The metrics of all workers of one parent: each answers a scrape with the numbers of all.

    worker 1 ──every second──▶ worker-1/metrics.json ◀──┐
    worker 2 ──every second──▶ worker-2/metrics.json ◀──┴── the worker that is scraped, which knows its own

Counters and histograms are sums. Those of a dead worker stay, since its replacement goes on from its file, so no
counter falls while the parent lives. Gauges are those of living workers. Numbers of other workers are up to a second
late, and the last second of a killed worker is lost.
"""

import asyncio
import json
import logging
import math
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.private_files import UntrustedFile, read_own, write_whole
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.telemetry.exposition import Family

INTERVAL_SECONDS = 1.0
FILE_NAME = "metrics.json"
_FOLDERS = "worker-*"

_log = logging.getLogger(__name__)


class WorkerMetrics:
    """The metrics of one worker, from start() to close(). `folder` is its own, beside those of the others."""

    def __init__(self, metrics: Metrics, folder: Path) -> None:
        self._metrics = metrics
        self._path = folder / FILE_NAME
        self._before = _page(self._path)  # the numbers of the worker that this one replaces
        self._writing = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def forget(state_dir: Path) -> None:
        """Delete all numbers, because a new parent starts."""
        for path in state_dir.glob(f"{_FOLDERS}/{FILE_NAME}*"):  # also an unfinished file of a killed worker
            path.unlink(missing_ok=True)

    def start(self) -> None:
        """Start to write every second, on the running loop."""
        self._task = asyncio.create_task(self._write_every_second())

    async def close(self) -> None:
        """Write a last time, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await asyncio.to_thread(self._write_page)

    def render(self) -> tuple[bytes, str]:
        """The page of all workers, and its content type. It blocks: call it in a thread."""
        from app.telemetry.exposition import page_of

        paths = self._path.parent.parent.glob(f"{_FOLDERS}/{FILE_NAME}")
        others = [_page(path) for path in sorted(paths) if path != self._path]
        return page_of(summed((self._write_page(), *others)))

    async def _write_every_second(self) -> None:
        while True:
            await asyncio.to_thread(self._write_page)
            await asyncio.sleep(INTERVAL_SECONDS)

    def _write_page(self) -> Mapping[str, Any]:
        """Write this worker's page and return it. A full disk is logged, and the page is still returned."""
        page = self._own_page()
        try:
            with self._writing:
                write_whole(self._path, json.dumps(page).encode(), durable=False)
        except OSError as error:
            _log.warning("the metrics of this worker cannot be written for the other workers: %s", error)
        return page

    def _own_page(self) -> Mapping[str, Any]:
        from app.telemetry.exposition import families

        now = {"pid": os.getpid(), "families": list(families(self._metrics))}
        return {**now, "families": summed((self._before, now))}


def summed(pages: Iterable[Mapping[str, Any]]) -> "list[Family]":
    """Add several pages up. Gauges of dead workers are left out."""
    found: dict[str, tuple[str, str, dict[str, tuple[str, dict[str, str], float]]]] = {}
    for page in pages:
        lives = _is_alive(page["pid"])
        for name, text, kind, samples in page["families"]:
            if kind == "gauge" and not lives:
                continue
            together = found.setdefault(name, (text, kind, {}))[2]
            for sample, labels, value in samples:
                place = f"{sample} {sorted(labels.items())}"
                known = together.get(place)
                together[place] = (sample, labels, value if known is None else _combined(name, known[2], value))
    return [(name, text, kind, list(samples.values())) for name, (text, kind, samples) in found.items()]


def _combined(name: str, one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):  # one worker could not read it
        return other if math.isnan(one) else one
    if name == "weighbridge_ledger_keeps":  # 1 if it is 1 for all
        return min(one, other)
    if name in ("process_start_time_seconds", "process_max_fds", "weighbridge_unsettled_records"):  # the same for all
        return max(one, other)
    return one + other


def _page(path: Path) -> Mapping[str, Any]:
    """The page that a worker has written; empty if it has not written one."""
    try:
        page: Mapping[str, Any] = json.loads(read_own(path))
    except (OSError, ValueError, UntrustedFile):
        return {"pid": 0, "families": []}
    return page


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
