"""How many lines of a kind may be logged: ten within ten seconds, so that a flood of refusals fills no disk."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

WINDOW_SECONDS = 10.0
MOST_LINES = 10

_MOST_KINDS = 1000


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


class LineBudget:
    """Counts by kind. For use by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def take(self, kind: Hashable) -> int | None:
        """Room for one line: how many of its kind were left out since the last one. None when there is no room."""
        now = self._clock()
        window = self._windows.get(kind)
        left_out = 0
        if window is None or now - window.began >= WINDOW_SECONDS:
            left_out = 0 if window is None else window.left_out
            if len(self._windows) >= _MOST_KINDS:
                self._windows = {k: w for k, w in self._windows.items() if now - w.began < WINDOW_SECONDS}
            self._windows[kind] = window = _Window(now)
        if window.lines == MOST_LINES:
            window.left_out += 1
            return None
        window.lines += 1
        return left_out
