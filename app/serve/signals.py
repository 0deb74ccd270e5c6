"""The signals that stop the program, from the first moment of a run to its last.

uvicorn listens for them while it serves, and only then. Before that, SIGTERM would end the process in the middle of
opening the ledger; after it, a second one in the middle of writing the last records.
"""

import os
import signal
from types import FrameType
from typing import Self

STOPS = (signal.SIGTERM, signal.SIGINT)


def leave_when_told() -> None:
    """SIGTERM ends the process at once, with 0, until a run begins: there is nothing to close yet.

    By itself it would not end the first process of a container, which the kernel spares whatever it does not catch.
    SIGHUP, by which a terminal says that it is closed, is ignored from here on.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def hear_stops() -> None:
    """What was held back until now is heard: the image starts us with SIGTERM blocked, lest one is lost meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


class StopSignals:
    """While entered, signals are noted. Afterwards they are ignored for good: all that is left to do is to exit."""

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
