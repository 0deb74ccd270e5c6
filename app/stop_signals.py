"""The signals that stop the program, from the first moment of a run to its last.

uvicorn listens for them while it serves, and only then. Before that, SIGTERM would end the process in the middle of
opening the ledger; after it, a second one in the middle of writing the last records.
"""

import signal
from types import FrameType
from typing import Self

STOPS = (signal.SIGTERM, signal.SIGINT)


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
