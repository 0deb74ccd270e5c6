"""The doorkeeper: knows every client connection of the process, how many may be in, and who has overstayed.

One timer for all connections looks round twice a second; none is set per connection or request.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import ApiError, Overloaded
from app.web.connection.request_rules import RequestRules

ROUND_SECONDS = 0.5


@dataclass(slots=True, frozen=True)
class ConnectionLimits:
    """How long and how many.

    `request_seconds` are for a request's head (and for the first one to begin), and again for its body; `write_seconds`
    for a client that does not read. Connections are counted in all and from one address.
    """

    request_seconds: float
    write_seconds: float
    max_connections: int
    max_per_address: int


class TrackedConnection(Protocol):
    """What the doorkeeper needs of a connection."""

    address: str | None

    def look_at(self, now: float) -> None:
        """End the connection if it has overstayed."""


class ConnectionLimiter:
    """One per server. `new_id` gives ids for refusals; `refused` takes note of them, with address, method and path."""

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
        self._guests: set[TrackedConnection] = set()
        self._by_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: TrackedConnection) -> ApiError | None:
        """Let a connection in, or say why not; either way leave() follows."""
        self._guests.add(guest)
        if guest.address is not None:
            self._by_address[guest.address] += 1
        if self._timer is None:
            self._set_timer()
        if len(self._guests) > self.limits.max_connections:
            return Overloaded("This server has as many connections as it may. Try again in a moment.")
        if guest.address is not None and self._by_address[guest.address] > self.limits.max_per_address:
            return Overloaded("There are too many connections from this address. Try again in a moment.")
        return None

    def leave(self, guest: TrackedConnection) -> None:
        """A connection is gone."""
        self._guests.discard(guest)
        if guest.address is not None:
            self._by_address[guest.address] -= 1
            if not self._by_address[guest.address]:
                del self._by_address[guest.address]

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(ROUND_SECONDS, self._go_round)

    def _go_round(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for guest in list(self._guests):
            guest.look_at(now)
        if self._guests:
            self._set_timer()
