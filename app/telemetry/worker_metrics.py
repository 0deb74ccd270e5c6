"""Siblings: the workers of one parent. Whichever of them is scraped tells the numbers of all.

    worker 1 ──every second──▶ worker-1/metrics.json ◀──┐
    worker 2 ──every second──▶ worker-2/metrics.json ◀──┴── the worker that is scraped, which knows its own

Counters and histograms add up, and those of a worker that died stay: the one in its place goes on from its file. So no
counter ever falls while the parent lives. Gauges are those of the living. What others count is told up to a second
late, and what a killed worker counted in its last second is lost.
"""

import asyncio
import json
import logging
import math
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.private_files import UntrustedFile, read_own, write_whole
from app.telemetry.metrics import Metrics

INTERVAL_SECONDS = 1.0
FILE_NAME = "metrics.json"
_FOLDERS = "worker-*"

_log = logging.getLogger(__name__)

Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, help, type, and samples: name, labels, value."""


class WorkerMetrics:
    """One of them, from start() to close(). `folder` is its own, a folder beside those of the others."""

    def __init__(self, metrics: Metrics, folder: Path) -> None:
        self._metrics = metrics
        self._path = folder / FILE_NAME
        self._before = _page(self._path)  # of the worker that had this place
        self._writing = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def forget(state_dir: Path) -> None:
        """A parent begins: nothing has been counted yet."""
        for path in state_dir.glob(f"{_FOLDERS}/{FILE_NAME}*"):  # and what a killed worker was writing
            path.unlink(missing_ok=True)

    def start(self) -> None:
        """Begin to write, on the running loop."""
        self._task = asyncio.create_task(self._write_again_and_again())

    async def close(self) -> None:
        """Write for the last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await asyncio.to_thread(self._write_kindly)

    def render(self) -> tuple[bytes, str]:
        """The page of all, and its content type. Call it in a thread, as the page of one."""
        from app.telemetry.exposition import page_of

        paths = self._path.parent.parent.glob(f"{_FOLDERS}/{FILE_NAME}")
        others = [_page(path) for path in sorted(paths) if path != self._path]
        return page_of(summed((self._write_kindly(), *others)))

    async def _write_again_and_again(self) -> None:
        while True:
            await asyncio.to_thread(self._write_kindly)
            await asyncio.sleep(INTERVAL_SECONDS)

    def _write_kindly(self) -> Mapping[str, Any]:
        """Write its own page, and give it. A full disk hides nothing from who asks here."""
        mine = self._mine()
        try:
            with self._writing:
                write_whole(self._path, json.dumps(mine).encode(), durable=False)
        except OSError as error:
            _log.warning("the numbers of this worker cannot be written for the others: %s", error)
        return mine

    def _mine(self) -> Mapping[str, Any]:
        from app.telemetry.exposition import families

        now = {"pid": os.getpid(), "families": list(families(self._metrics))}
        return {**now, "families": summed((self._before, now))}


def summed(pages: Iterable[Mapping[str, Any]]) -> list[Family]:
    """One page of several. A gauge of a worker that is gone is left out."""
    found: dict[str, tuple[str, str, dict[str, tuple[str, dict[str, str], float]]]] = {}
    for page in pages:
        lives = _lives(page["pid"])
        for name, text, kind, samples in page["families"]:
            if kind == "gauge" and not lives:
                continue
            together = found.setdefault(name, (text, kind, {}))[2]
            for sample, labels, value in samples:
                place = f"{sample} {sorted(labels.items())}"
                known = together.get(place)
                together[place] = (sample, labels, value if known is None else _together(name, known[2], value))
    return [(name, text, kind, list(samples.values())) for name, (text, kind, samples) in found.items()]


def _together(name: str, one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):  # what one worker cannot tell the others still can
        return other if math.isnan(one) else one
    if name == "weighbridge_ledger_keeps":  # 1 if all of them do
        return min(one, other)
    if name in ("process_start_time_seconds", "process_max_fds", "weighbridge_unsettled_records"):  # all see the same
        return max(one, other)
    return one + other


def _page(path: Path) -> Mapping[str, Any]:
    """What a worker has written; nothing when it has not yet."""
    try:
        page: Mapping[str, Any] = json.loads(read_own(path))
    except (OSError, ValueError, UntrustedFile):
        return {"pid": 0, "families": []}
    return page


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
