"""Limits the client connections of the process: how many there may be, and how long each may take.

One timer checks all connections twice a second; no connection or request has a timer of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import ApiError, Overloaded
from app.web.connection.request_rules import RequestRules

CHECK_SECONDS = 0.5


@dataclass(slots=True, frozen=True)
class ConnectionLimits:
    """How many connections there may be, in all and from one address, and how long each may take.

    `request_seconds` is the time for a request's head (and until the first one begins), and the window in which the
    pace of its body is measured. `write_seconds` is how long a client may go without reading.
    """

    request_seconds: float
    write_seconds: float
    max_connections: int
    max_per_address: int


class TrackedConnection(Protocol):
    """What the limiter needs to know of a connection."""

    address: str | None

    def check(self, now: float) -> None:
        """End the connection if one of its deadlines has passed."""


class ConnectionLimiter:
    """One per server. `new_id` makes ids for refusals; `refused` notes each one with address, method and path."""

    def __init__(
        self,
        rules: RequestRules,
        limits: ConnectionLimits,
        new_id: Callable[[], str],
        refused: Callable[[ApiError, str | None, str], None],
    ) -> None:
        self.rules = rules
        self.limits = limits
        self.new_id = new_id
        self.refused = refused
        self._connections: set[TrackedConnection] = set()
        self._by_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def enter(self, connection: TrackedConnection) -> ApiError | None:
        """Count a connection. Returns an error to refuse it with if there are too many. leave() must follow."""
        self._connections.add(connection)
        if connection.address is not None:
            self._by_address[connection.address] += 1
        if self._timer is None:
            self._set_timer()
        if len(self._connections) > self.limits.max_connections:
            return Overloaded("This server has too many connections. Try again in a moment.")
        if connection.address is not None and self._by_address[connection.address] > self.limits.max_per_address:
            return Overloaded("There are too many connections from this address. Try again in a moment.")
        return None

    def leave(self, connection: TrackedConnection) -> None:
        """Stop counting a connection that has closed."""
        self._connections.discard(connection)
        if connection.address is not None:
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check_all)

    def _check_all(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            connection.check(now)
        if self._connections:
            self._set_timer()
