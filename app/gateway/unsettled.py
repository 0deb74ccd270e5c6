"""Unsettled calls, whose cost is not known yet: which they are, what budgets they hold, how an operator settles one.

A call that went out whole and has no usage counts for budgets by its worst case (app.gateway.admission.reservation).
Its record is `held`, so that it counts across restarts and in all processes, until upstream's usage records tell its
usage (app.gateway.usage_reconciler) or an operator settles it here.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from app.domain.answer.usage import Usage
from app.domain.errors import InvalidRequest, NotFound
from app.domain.money.budgets import Budget, Unit
from app.domain.money.windows import window_of
from app.domain.records import Book, Outcome, Record, UsageSource, book_of
from app.gateway.exchange.settlement import write_usage
from app.gateway.limiter import Holder
from app.gateway.services import Services

_log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""How long a reading of the ledger is used, so that many refusals do not read it again."""
WAIT_SECONDS = 1.0
"""How long a refusal waits for the ledger."""
_REMEMBERED = 10_000
_OPEN = frozenset((UsageSource.NONE, UsageSource.ESTIMATED))


class HeldReports(Protocol):
    """Reads held calls from the ledger."""

    async def held(self, client: str | None = None) -> Sequence[Record]:
        """The ended calls that are `held`, of this client or of all, oldest first; of very many the newest."""

    async def record(self, request_id: str) -> Record | None:
        """The record of a call, if there is one."""


class UnsettledCalls:
    """One per process, used on its loop.

    For each call that is settled here, `settled` is called with its id, then `amended` with its old and new record.
    """

    def __init__(
        self,
        reports: HeldReports,
        services: Services,
        amended: Callable[[Record, Record], None] = lambda *_: None,
    ) -> None:
        self.settled: Callable[[str], None] = lambda _: None
        self._reports = reports
        self._ledger = services.ledger
        self._prices = services.prices
        self._observer = services.observer
        self._clock = services.clock
        self._demo = book_of(services.upstream.name) is Book.DEMO
        self._amended = amended
        self._held: Sequence[Record] = ()
        self._stale_at = 0.0
        self._waiting: list[Callable[[], None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._settling = asyncio.Lock()
        self._done: deque[str] = deque(maxlen=_REMEMBERED)  # settled here, perhaps not in the ledger yet

    async def held(self, client: str | None = None) -> Sequence[Record]:
        """The held calls of this client or of all, oldest first."""
        found = await self._reports.held(client)
        return [record for record in found if record.demo is self._demo and record.request_id not in self._done]

    def holding(self, holder: Holder, budget: Budget, at_us: int) -> tuple[int, int]:
        """How much of a holder's budget is held, and by how many calls, as of the last look_up()."""
        begins_at = window_of(budget.period, at_us).begins_at
        held = [r for r in self._held if r.client in holder.clients and r.started_at >= begins_at]
        amounts = [(r.cost_nanousd if budget.unit is Unit.USD else r.total_tokens) or 0 for r in held]
        return sum(amounts), len(held)

    def look_up(self, then: Callable[[], None]) -> None:
        """Call `then` when holding() is no older than FRESH_SECONDS: at once, or within about WAIT_SECONDS."""
        if self._clock.monotonic() < self._stale_at:
            then()
            return
        self._waiting.append(then)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def settle(
        self, request_id: str, cost_nanousd: int, input_tokens: int | None = None, output_tokens: int | None = None
    ) -> Record:
        """Settle a call by the cost that an operator names; returns its new record.

        Tokens that are not given stay as they are; for a call that cost nothing they are 0. Raises NotFound, or
        InvalidRequest for a call whose usage is known, or that is not over.
        """
        async with self._settling:
            record = await self._reports.record(request_id)
            if record is None:
                message = f"There is no call {request_id[:64]!r}: `weighbridge limits unsettled` lists those to settle."
                raise NotFound(message)
            if record.outcome is Outcome.IN_PROGRESS:
                raise InvalidRequest(f"The call {request_id} is still under way: settle it when it is over.")
            if request_id in self._done or record.usage_source not in _OPEN:
                raise InvalidRequest(f"The usage of {request_id} is known already: there is nothing to settle.")
            if not cost_nanousd:
                input_tokens, output_tokens = input_tokens or 0, output_tokens or 0
            usage = _usage_of(record, cost_nanousd, input_tokens, output_tokens)
            after = replace(record, held=False)
            write_usage(after, usage, UsageSource.SETTLED, self._prices)
            self._done.append(request_id)
            self.settled(request_id)
            self._ledger.amend(after)
            self._observer.amended(after)
            self._amended(record, after)
            self._stale_at = 0.0
            return after

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                self._held = await self.held()
        except Exception as error:  # noqa: BLE001 - refusals must not wait
            _log.warning("what unsettled calls hold could not be read: %s", str(error) or type(error).__name__)
        finally:
            self._reading = None
            self._stale_at = self._clock.monotonic() + FRESH_SECONDS
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                then()


def _usage_of(record: Record, cost_nanousd: int, input_tokens: int | None, output_tokens: int | None) -> Usage:
    into = record.input_tokens if input_tokens is None else input_tokens
    out = record.output_tokens if output_tokens is None else output_tokens
    total = None if into is None or out is None else into + out
    return Usage(into, output_tokens=out, total_tokens=total, reported_cost_nanousd=cost_nanousd)
