"""The Limiter in this process's memory: looks at every limit, then takes of every one. Nothing can come in between.

prepare ──ledger──> accounts          reserve: all have room? ──yes──> take of each ──> Grant ──settle──> corrected
                                                         └──no──> Refusal, nothing taken
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
"""When a slot will be free nobody knows; in a second it may be."""


class Share:
    """What one call has taken of one holder."""

    __slots__ = ("holds", "request", "short", "state", "taken", "tokens")

    def __init__(self, state: HolderUsage, ask: LimitRequest, now_ns: int, *, roomy: bool) -> None:
        limits, tokens = state.limits, ask.tokens
        self.state = state
        self.request: RatePart | None = None if limits.rpm is None else state.requests.take(1, now_ns)
        self.tokens: RatePart | None = None
        if limits.tpm is not None:
            self.taken = tokens if roomy else min(tokens, limits.tpm)
            self.tokens = state.tokens.take(self.taken, now_ns)
        state.slots += 1
        self.holds: list[tuple[bool, BudgetReservation]] = []
        holds = self.holds
        self.short = False  # does one hold less than the worst case?
        for line in state.lines:
            account, amount = line.account, ask.cost_nanousd if line.in_dollars else tokens
            if roomy:
                holds.append((line.in_dollars, BudgetReservation(account, amount)))
            else:
                beyond = max(0, amount - max(0, line.amount - account.spent - account.reserved - account.beyond))
                self.short = self.short or beyond > 0
                holds.append((line.in_dollars, BudgetReservation(account, amount - beyond, beyond)))


class MemoryGrant:
    """A Grant; see app.gateway.limiter."""

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
        for in_dollars, hold in share.holds:
            if hold.beyond and in_dollars:
                self.cost_nanousd = min(self.cost_nanousd, hold.amount)
            elif hold.beyond:
                self.tokens = min(self.tokens, hold.amount)

    def give_back(self) -> None:
        """As the port says."""
        for share in self._shares:
            if share.request is not None:
                share.state.requests.correct(share.request, -1)
        self.settle(0, 0)

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        """As the port says. A second time changes nothing."""
        shares, self._shares = self._shares, []
        for share in shares:
            state, holds = share.state, share.holds
            state.slots -= 1
            if share.tokens is not None:
                state.tokens.correct(share.tokens, tokens - share.taken)
            for in_dollars, hold in holds:
                hold.settle(cost_nanousd if in_dollars else tokens)
            if len(holds) < len(state.accounts):  # a budget was set while the call was under way
                state.spend(self._at_us, tokens, cost_nanousd, but=[hold.account for _, hold in holds])


class MemoryLimiter:
    """One per process, for a server that is the only one. `now_ns` never falls, `now_us` is wall time."""

    def __init__(self, spending: LedgerSpending, now_ns: Callable[[], int], now_us: Callable[[], int]) -> None:
        self._spending = spending
        self._now_ns = now_ns
        self._now_us = now_us
        self._states: defaultdict[str, HolderUsage] = defaultdict(HolderUsage)
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._preparing = asyncio.Lock()  # two that read for one account would both add what they find

    def reserve(self, ask: LimitRequest, answered: Answered) -> None:
        """As the port says; `answered` is called before this returns."""
        now_ns = self._now_ns()
        states = []
        roomy = True
        for holder in ask.holders:
            state = self._states[holder.name]
            if state.limits is not holder.limits and not state.bind(holder.limits):
                self._open_soon(holder)
                answered(StorageUnavailable(NOT_KNOWN))
                return
            if now_ns >= state.next_part_ns or ask.at_us >= state.window_ends_us:
                state.advance(ask.at_us, now_ns)
            roomy = roomy and state.has_room(ask)
            states.append(state)
        if not roomy and (refusal := _refusal(ask, states, now_ns)) is not None:
            answered(refusal)
            return
        shares: list[Share] = []
        readings: list[RateReading] = []
        for state in states:
            shares.append(Share(state, ask, now_ns, roomy=roomy))
            state.tell(now_ns, readings)
        answered(MemoryGrant(ask, shares, readings))

    def correct(self, amendment: Amendment) -> None:
        """As the port says. The only process hears of it once, and nobody else can have given up its calls."""
        for holder in amendment.holders:
            self._states[holder.name].spend(amendment.at_us, amendment.tokens, amendment.cost_nanousd)

    async def prepare(self, holders: Sequence[Holder], before: Mapping[str, Holder] | None = None) -> None:  # noqa: ARG002
        """As the port says. An account that has counted these clients all along knows more than the ledger, and stays.

        Raises StorageUnavailable when the ledger lags behind and an open account would have to be read anew; new ones
        stay shut then, until somebody asks.
        """
        async with self._preparing:
            for holder in holders:
                state = self._states[holder.name]
                for budget in holder.limits.budgets:
                    key = (budget.unit, budget.period)
                    if key not in state.accounts:
                        state.shut.add(key)
                    if key in state.shut or state.clients != holder.clients:
                        await self._read(state, key, holder.clients)
                state.clients = holder.clients if holder.limits.any else ()  # nobody counts for who has no limits

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        """As the port says. Raises StorageUnavailable."""
        state = self._states[holder.name]
        if state.limits is not holder.limits and not state.bind(holder.limits):
            await self.prepare((holder,))
            if not state.bind(holder.limits):
                raise StorageUnavailable(NOT_KNOWN)
        now_ns = self._now_ns()
        state.advance(at_us, now_ns)
        rates: list[RateReading] = []
        state.tell(now_ns, rates)
        return HolderReading(state.slots, rates, [line.reading() for line in state.lines])

    async def _read(self, state: HolderUsage, key: AccountKey, clients: Sequence[str]) -> None:
        """What ends while the ledger is read counts besides: a call too many rather than one too few."""
        account = state.accounts.setdefault(key, Account(key[1], self._now_us()))
        account.advance(self._now_us())
        window, before = account.window, account.spent
        try:
            found = await self._spending.since(window.begins_at, clients)
        except StorageUnavailable:
            if key in state.shut:
                return
            raise
        if account.window is window:
            account.spent += found.of(key[0]) - before
        state.shut.discard(key)

    def _open_soon(self, holder: Holder) -> None:
        if holder.name not in self._opening:
            task = self._opening[holder.name] = asyncio.get_running_loop().create_task(self.prepare((holder,)))
            task.add_done_callback(lambda done: self._opened(holder, done))

    def _opened(self, holder: Holder, task: "asyncio.Task[None]") -> None:
        del self._opening[holder.name]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("the ledger could not be read for what %s has spent: %s", holder.name, error)


def _refusal(ask: LimitRequest, states: Sequence[HolderUsage], now_ns: int) -> LimitRefusal | None:
    """The limit in the way: a budget first, since no waiting mends that, else the longest wait."""
    longest, limit, whose = 0, Limit.REQUESTS, 0
    for place, state in enumerate(states):
        limits = state.limits
        line = state.lacking(ask)
        if line is not None:
            readings = _readings(states, now_ns)
            return LimitRefusal(Limit.BUDGET, ask.holders[place], 0, readings, line.reading())
        if limits.rpm is not None and state.requests.used >= limits.rpm:
            wait = state.requests.wait_ns(1, limits.rpm, now_ns)
            if wait > longest:
                longest, limit, whose = wait, Limit.REQUESTS, place
        if limits.tpm is not None and state.tokens.used + ask.tokens > limits.tpm:
            wait = state.tokens.wait_ns(min(ask.tokens, limits.tpm), limits.tpm, now_ns)
            if wait > longest:
                longest, limit, whose = wait, Limit.TOKENS, place
        if limits.concurrency is not None and state.slots >= limits.concurrency and longest < SLOT_WAIT_NS:
            longest, limit, whose = SLOT_WAIT_NS, Limit.CONCURRENCY, place
    return LimitRefusal(limit, ask.holders[whose], longest, _readings(states, now_ns)) if longest else None


def _readings(states: Sequence[HolderUsage], now_ns: int) -> list[RateReading]:
    found: list[RateReading] = []
    for state in states:
        state.tell(now_ns, found)
    return found
