"""The Limiter in this process's memory: checks all limits, then takes from all, without interruption.

prepare ──ledger──> accounts          reserve: all have room? ──yes──> take of each ──> Grant ──settle──> corrected
                                                         └──no──> LimitRefusal, nothing taken
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from app.domain.errors import StorageUnavailable
from app.domain.money.budgets import Account, BudgetReservation
from app.gateway.admission.spending import LedgerSpending
from app.gateway.limiter import (
    Amendment,
    Answered,
    Holder,
    HolderReading,
    Limit,
    LimitRefusal,
    LimitRequest,
    RateReading,
)
from app.limits.memory.holder_usage import AccountKey, HolderUsage

if TYPE_CHECKING:
    from app.domain.money.rates import RatePart

LOG = logging.getLogger(__name__)
NOT_KNOWN = "What was spent of a budget is not known yet. Try again in a moment."
SLOT_WAIT_NS = 1_000_000_000
"""When a slot will be free is unknown; this is a guess."""


class Share:
    """What one call has taken of one holder."""

    __slots__ = ("request", "reservations", "short", "taken", "tokens", "usage")

    def __init__(self, usage: HolderUsage, ask: LimitRequest, now_ns: int, *, roomy: bool) -> None:
        limits, tokens = usage.limits, ask.tokens
        self.usage = usage
        self.request: RatePart | None = None if limits.rpm is None else usage.requests.take(1, now_ns)
        self.tokens: RatePart | None = None
        if limits.tpm is not None:
            self.taken = tokens if roomy else min(tokens, limits.tpm)
            self.tokens = usage.tokens.take(self.taken, now_ns)
        usage.slots += 1
        self.reservations: list[tuple[bool, BudgetReservation]] = []
        reservations = self.reservations
        self.short = False  # whether a reservation is less than the worst case
        for budget in usage.budgets:
            account, amount = budget.account, ask.cost_nanousd if budget.in_dollars else tokens
            if roomy:
                reservations.append((budget.in_dollars, BudgetReservation(account, amount)))
            else:
                beyond = max(0, amount - max(0, budget.amount - account.spent - account.reserved - account.beyond))
                self.short = self.short or beyond > 0
                reservations.append((budget.in_dollars, BudgetReservation(account, amount - beyond, beyond)))


class MemoryGrant:
    """The Grant of this form."""

    __slots__ = ("_at_us", "_shares", "cost_nanousd", "readings", "tokens")

    def __init__(self, ask: LimitRequest, shares: list[Share], readings: list[RateReading]) -> None:
        self.readings: Sequence[RateReading] = readings
        self.tokens, self.cost_nanousd = ask.tokens, ask.cost_nanousd
        self._at_us = ask.at_us
        self._shares = shares
        for share in shares:
            if share.short:
                self._shorten(share)

    def _shorten(self, share: Share) -> None:
        for in_dollars, reservation in share.reservations:
            if reservation.beyond and in_dollars:
                self.cost_nanousd = min(self.cost_nanousd, reservation.amount)
            elif reservation.beyond:
                self.tokens = min(self.tokens, reservation.amount)

    def give_back(self) -> None:
        for share in self._shares:
            if share.request is not None:
                share.usage.requests.correct(share.request, -1)
        self.settle(0, 0)

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        shares, self._shares = self._shares, []
        for share in shares:
            usage, reservations = share.usage, share.reservations
            usage.slots -= 1
            if share.tokens is not None:
                usage.tokens.correct(share.tokens, tokens - share.taken)
            for in_dollars, reservation in reservations:
                reservation.settle(cost_nanousd if in_dollars else tokens)
            if len(reservations) < len(usage.accounts):  # a budget was set while the call was under way
                counted = [reservation.account for _, reservation in reservations]
                usage.spend(self._at_us, tokens, cost_nanousd, but=counted)


class MemoryLimiter:
    """One per process, for a server with a single process. `now_ns` is monotonic, `now_us` is wall time."""

    def __init__(self, spending: LedgerSpending, now_ns: Callable[[], int], now_us: Callable[[], int]) -> None:
        self._spending = spending
        self._now_ns = now_ns
        self._now_us = now_us
        self._usages: defaultdict[str, HolderUsage] = defaultdict(HolderUsage)
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._preparing = asyncio.Lock()  # two readers of one account would both add what they find

    def reserve(self, ask: LimitRequest, answered: Answered) -> None:
        """`answered` is called before this returns."""
        now_ns = self._now_ns()
        usages = []
        roomy = True
        for holder in ask.holders:
            usage = self._usages[holder.name]
            if usage.limits is not holder.limits and not usage.bind(holder.limits):
                self._open_soon(holder)
                answered(StorageUnavailable(NOT_KNOWN))
                return
            if now_ns >= usage.next_part_ns or ask.at_us >= usage.window_ends_us:
                usage.advance(ask.at_us, now_ns)
            roomy = roomy and usage.has_room(ask)
            usages.append(usage)
        if not roomy and (refusal := _refusal(ask, usages, now_ns)) is not None:
            answered(refusal)
            return
        shares: list[Share] = []
        readings: list[RateReading] = []
        for usage in usages:
            shares.append(Share(usage, ask, now_ns, roomy=roomy))
            usage.add_readings(now_ns, readings)
        answered(MemoryGrant(ask, shares, readings))

    def correct(self, amendment: Amendment) -> None:
        """A single process gets each amendment once, and no other process can have closed its calls."""
        for holder in amendment.holders:
            self._usages[holder.name].spend(amendment.at_us, amendment.tokens, amendment.cost_nanousd)

    async def prepare(self, holders: Sequence[Holder], before: Mapping[str, Holder] | None = None) -> None:  # noqa: ARG002
        """An open account of the same clients stays, since it is ahead of the ledger.

        If the ledger lags behind, new accounts stay shut until somebody asks; StorageUnavailable is raised only for an
        open account that must be read again.
        """
        async with self._preparing:
            for holder in holders:
                usage = self._usages[holder.name]
                for budget in holder.limits.budgets:
                    key = (budget.unit, budget.period)
                    if key not in usage.accounts:
                        usage.shut.add(key)
                    if key in usage.shut or usage.clients != holder.clients:
                        await self._read(usage, key, holder.clients)
                usage.clients = holder.clients if holder.limits.any else ()  # without limits, nothing is counted

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        usage = self._usages[holder.name]
        if usage.limits is not holder.limits and not usage.bind(holder.limits):
            await self.prepare((holder,))
            if not usage.bind(holder.limits):
                raise StorageUnavailable(NOT_KNOWN)
        now_ns = self._now_ns()
        usage.advance(at_us, now_ns)
        rates: list[RateReading] = []
        usage.add_readings(now_ns, rates)
        return HolderReading(usage.slots, rates, [budget.reading() for budget in usage.budgets])

    async def _read(self, usage: HolderUsage, key: AccountKey, clients: Sequence[str]) -> None:
        """Calls that end while the ledger is read may count twice, which is safer than not at all."""
        account = usage.accounts.setdefault(key, Account(key[1], self._now_us()))
        account.advance(self._now_us())
        window, before = account.window, account.spent
        try:
            found = await self._spending.since(window.begins_at, clients)
        except StorageUnavailable:
            if key in usage.shut:
                return
            raise
        if account.window is window:
            account.spent += found.of(key[0]) - before
        usage.shut.discard(key)

    def _open_soon(self, holder: Holder) -> None:
        if holder.name not in self._opening:
            task = self._opening[holder.name] = asyncio.get_running_loop().create_task(self.prepare((holder,)))
            task.add_done_callback(lambda done: self._opened(holder, done))

    def _opened(self, holder: Holder, task: "asyncio.Task[None]") -> None:
        del self._opening[holder.name]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("the ledger could not be read for the spending of %s: %s", holder.name, error)


def _refusal(ask: LimitRequest, usages: Sequence[HolderUsage], now_ns: int) -> LimitRefusal | None:
    """The limit in the way: a budget first, since waiting does not help there, else the longest wait."""
    longest, limit, whose = 0, Limit.REQUESTS, 0
    for place, usage in enumerate(usages):
        limits = usage.limits
        budget = usage.lacking(ask)
        if budget is not None:
            readings = _readings(usages, now_ns)
            return LimitRefusal(Limit.BUDGET, ask.holders[place], 0, readings, budget.reading())
        if limits.rpm is not None and usage.requests.used >= limits.rpm:
            wait = usage.requests.wait_ns(1, limits.rpm, now_ns)
            if wait > longest:
                longest, limit, whose = wait, Limit.REQUESTS, place
        if limits.tpm is not None and usage.tokens.used + ask.tokens > limits.tpm:
            wait = usage.tokens.wait_ns(min(ask.tokens, limits.tpm), limits.tpm, now_ns)
            if wait > longest:
                longest, limit, whose = wait, Limit.TOKENS, place
        if limits.concurrency is not None and usage.slots >= limits.concurrency and longest < SLOT_WAIT_NS:
            longest, limit, whose = SLOT_WAIT_NS, Limit.CONCURRENCY, place
    return LimitRefusal(limit, ask.holders[whose], longest, _readings(usages, now_ns)) if longest else None


def _readings(usages: Sequence[HolderUsage], now_ns: int) -> list[RateReading]:
    found: list[RateReading] = []
    for usage in usages:
        usage.add_readings(now_ns, found)
    return found
