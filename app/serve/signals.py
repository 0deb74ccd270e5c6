"""Handles the signals that stop the program during a whole run.

uvicorn handles them only while it serves. Without this, SIGTERM would end the process while it opens the ledger, and a
second one while it writes the last records.
"""

import os
import signal
from types import FrameType
from typing import Self

STOPS = (signal.SIGTERM, signal.SIGINT)


def leave_when_told() -> None:
    """Make SIGTERM end the process at once, with 0, until a run begins: there is nothing to close yet.

    Without a handler, SIGTERM would not end the first process of a container: the kernel ignores it there. SIGHUP, the
    signal of a closed terminal, is ignored from here on.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def hear_stops() -> None:
    """Unblock SIGTERM. The image starts the process with SIGTERM blocked, so that none is lost before this."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


class StopSignals:
    """Notes signals inside the block. After it they are ignored for good, since only the exit is left."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Self:
        for number in STOPS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's shape
        self.came = True
