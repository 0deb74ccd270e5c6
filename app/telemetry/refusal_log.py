"""Logs requests that were refused before they were calls, at a bounded rate: a flood of them fills no disk.

Every one is counted in `weighbridge_refusals_total`, whether it is logged or not.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import ApiError

WINDOW_SECONDS = 10.0
MOST_LINES = 10
"""Of one `error_type` within a window."""

_LONGEST_REQUEST = 200

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


class RefusalLog:
    """One line a refusal: why, what was asked, from where. Reasons have their windows apart. For use by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def note(self, error: ApiError, address: str | None, request: str) -> None:
        """Log it, if this window has room. `request` is its method and path, as far as they are known."""
        now = self._clock()
        window = self._windows.get(error.error_type)
        left_out = 0
        if window is None or now - window.began >= WINDOW_SECONDS:
            left_out = 0 if window is None else window.left_out
            self._windows[error.error_type] = window = _Window(now)
        if window.lines == MOST_LINES:
            window.left_out += 1
            return
        window.lines += 1
        fields: dict[str, object] = {
            "error_type": error.error_type,
            "http_status": error.status,
            "error_detail": error.detail,
            "address": address,
            "request": request[:_LONGEST_REQUEST],
        }
        if left_out:
            fields["left_out_before"] = left_out
        if window.lines == MOST_LINES:
            fields["next_lines_in_seconds"] = round(WINDOW_SECONDS - (now - window.began), 1)
        _log.log(logging.WARNING if error.status >= 500 else logging.INFO, "request refused", extra=fields)
