"""A cache and a rate for the figures that clients request about themselves.

A client that asks all the time must not slow the calls of others. So reports are read in other threads, and made anew
only when the client's calls have changed them, or after a while, since another process may have changed them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from app.domain.records import Record
from app.web.routes.client_rate import ClientRate

ASKED_A_MINUTE = 60
KEPT_SECONDS = 2.0
MOST_KEPT = 1000

Figures = Any


class CallerFigures:
    """One per process. `now` gives seconds, monotonic."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.admit = ClientRate(ASKED_A_MINUTE, "ask for its own figures", now).admit
        self._kept: dict[tuple[str, Hashable], tuple[float, asyncio.Future[Figures]]] = {}
        self._changed: set[str] = set()  # names of clients

    def committed(self, records: Sequence[Record]) -> None:
        """Drop the figures of clients whose records were committed. Any thread may call this."""
        self._changed.update([record.client for record in records])

    async def get(self, client: str, question: Hashable, make: Callable[[], Awaitable[Figures]]) -> Figures:
        """The figures of a client. Requests that come while they are made share them. Raises what `make` raises."""
        now = self._now()
        if client in self._changed:
            self._changed.discard(client)
            for key in [key for key in self._kept if key[0] == client]:
                del self._kept[key]
        until, kept = self._kept.get((client, question), (0.0, None))
        if kept is None or now >= until or (kept.done() and kept.exception() is not None):
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = asyncio.ensure_future(make())
            self._kept[client, question] = (now + KEPT_SECONDS, kept)
        return await asyncio.shield(kept)
