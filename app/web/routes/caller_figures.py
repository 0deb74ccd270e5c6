"""What clients ask about themselves: how often each may, and figures that are kept for as long as they hold.

A caller who asks without end must not slow the calls of others: reports are read in threads of their own, and made anew
only when the client's own calls have changed them, or others may have, in another process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from app.domain.errors import RateLimited
from app.domain.money.rates import Rate
from app.domain.records import Record

ASKED_A_MINUTE = 60
KEPT_SECONDS = 2.0
MOST_KEPT = 1000

Figures = Any


class CallerFigures:
    """One per process. `now` gives seconds, monotonic."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._rates: dict[str, Rate] = {}
        self._kept: dict[tuple[str, Hashable], tuple[float, asyncio.Future[Figures]]] = {}
        self._changed: set[str] = set()  # clients

    def admit(self, client: str) -> None:
        """Count a question. Raises RateLimited."""
        now_ns = int(self._now() * 1e9)
        rate = self._rates.setdefault(client, Rate())
        rate.advance(now_ns)
        wait_ns = rate.wait_ns(1, ASKED_A_MINUTE, now_ns)
        if wait_ns:
            seconds = -(-wait_ns // 1_000_000_000)
            message = f"A client may ask for its own figures {ASKED_A_MINUTE} times a minute. Try again in {seconds} s."
            raise RateLimited(message, headers=(("retry-after", str(seconds)),))
        rate.take(1, now_ns)

    def committed(self, records: Sequence[Record]) -> None:
        """These calls are in the ledger now. Any thread may say so."""
        self._changed.update([record.client for record in records])

    async def of(self, client: str, question: Hashable, make: Callable[[], Awaitable[Figures]]) -> Figures:
        """The answer to a client's question. Who asks while it is made gets the same one; raises what `make` raises."""
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
