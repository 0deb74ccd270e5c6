"""What can be set about a mock upstream."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.mock.dialects import DIALECTS
from app.mock.faults import parse_faults
from app.mock.pace import Pace

MOCK_HEADERS = "x-mock-*"
"""The headers by which a call asks for a fault or a dialect, as a glob: a gateway in front must let them pass."""


class BadOption(ValueError):
    """An option that cannot be; the message is for the person who typed it."""


@dataclass(frozen=True, slots=True)
class MockOptions:
    """`key`: callers must bear it, None lets everybody in. `faults`: a spec for every call (app.mock.faults).

    `seed` makes ids, texts and paces follow from it and the calls alone; `clock` is seconds since 1970.
    Raises BadOption or BadFault.
    """

    key: str | None = field(default=None, repr=False)
    dialect: str = "openrouter"
    faults: str = ""
    pace: Pace = field(default_factory=Pace)
    seed: int | None = None
    books_delay_seconds: float = 0.0  # until GET /generation knows a call
    books_file: Path | None = None  # keeps the books from one run to the next
    keeps_accounts: bool = True  # False: it is one of several behind one gateway, and knows a part of the calls only
    kept_calls: int = 10_000
    kept_responses: int = 200
    max_body_bytes: int = 64_000_000
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        parse_faults(self.faults)
        if self.dialect not in DIALECTS:
            raise BadOption(f"unknown dialect {self.dialect!r}; there are {', '.join(DIALECTS)}")
