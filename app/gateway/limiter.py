"""The Limiter in this process's memory: looks at every limit, then takes of every one. Nothing can come in between.

prepare ──ledger──> accounts          reserve: all have room? ──yes──> take of each ──> Grant ──settle──> corrected
                                                         └──no──> Refusal, nothing taken
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from app.domain.budgets import Account, Budget, Hold, Unit
from app.domain.errors import StorageUnavailable
from app.domain.limits import NO_LIMITS, Limits
from app.domain.rates import Part, Rate, next_part_ns
from app.domain.windows import Period
from app.gateway.limits import Answered, Ask, BudgetReading, Holder, HolderReading, Limit, RateReading, Refusal
from app.gateway.spending import Spending

SLOT_WAIT_NS = 1_000_000_000
"""When a slot will be free nobody knows; in a second it may be."""

AccountKey = tuple[Unit, Period]

_NEVER_US = 2**62


class Line:
    """One budget of the limits in force, and its account."""

    __slots__ = ("account", "amount", "budget", "in_dollars")

    def __init__(self, budget: Budget, account: Account) -> None:
        self.budget = budget
        self.amount = budget.amount
        self.in_dollars = budget.unit is Unit.USD
        self.account = account

    def reading(self) -> BudgetReading:
        """As it stands."""
        account = self.account
        return BudgetReading(self.budget, account.spent, account.reserved, account.beyond, account.window.ends_at)


class State:
    """What is taken of one holder's limits. `limits` are those that `lines` are for.

    Until `next_part_ns` and `window_ends_us` time changes nothing: advance() is for whichever comes first.
    """

    __slots__ = ("accounts", "limits", "lines", "next_part_ns", "requests", "slots", "tokens", "window_ends_us")

    def __init__(self) -> None:
        self.next_part_ns = self.window_ends_us = 0
        self.slots = 0
        self.requests = Rate()
        self.tokens = Rate()
        self.accounts: dict[AccountKey, Account] = {}
        self.limits = NO_LIMITS
        self.lines: list[Line] = []

    def bind(self, limits: Limits) -> bool:
        """Hold to these limits from now on. False when there is no account for a budget of theirs."""
        keys = [(budget.unit, budget.period) for budget in limits.budgets]
        if not all(key in self.accounts for key in keys):
            return False
        self.lines = [Line(budget, self.accounts[key]) for budget, key in zip(limits.budgets, keys, strict=True)]
        self.limits = limits
        self.window_ends_us = 0
        return True

    def advance(self, at_us: int, now_ns: int) -> None:
        """Let time pass: for rates, for the windows of budgets."""
        self.requests.advance(now_ns)
        self.tokens.advance(now_ns)
        self.next_part_ns = next_part_ns(now_ns)
        self.window_ends_us = _NEVER_US
        for line in self.lines:
            line.account.advance(at_us)
            ends_at = line.account.window.ends_at
            if ends_at is not None and ends_at < self.window_ends_us:
                self.window_ends_us = ends_at

    def has_room(self, ask: Ask) -> bool:
        """Does the whole call fit everywhere? If not, _refusal() knows whether and what that means; after advance()."""
        limits = self.limits
        if limits.rpm is not None and self.requests.used >= limits.rpm:
            return False
        if limits.tpm is not None and self.tokens.used + ask.tokens > limits.tpm:
            return False
        if limits.concurrency is not None and self.slots >= limits.concurrency:
            return False
        for line in self.lines:
            account = line.account
            left = line.amount - account.spent - account.reserved - account.beyond
            if left < ((ask.cost_nanousd if line.in_dollars else ask.tokens) or 1):
                return False
        return True

    def lacking(self, ask: Ask) -> Line | None:
        """A budget that has too little left. To a call that costs nothing of its unit only a spent one matters."""
        for line in self.lines:
            amount = ask.cost_nanousd if line.in_dollars else ask.tokens
            account = line.account
            left = line.amount - account.spent
            if left <= 0:
                return line
            left -= account.reserved + account.beyond
            if left < (1 if ask.last_call else amount) and amount > 0:
                return line
        return None

    def tell(self, now_ns: int, found: list[RateReading]) -> None:
        """Add its rates; after advance()."""
        limits = self.limits
        if limits.rpm is not None:
            found.append(_reading(Limit.REQUESTS, limits.rpm, self.requests, now_ns))
        if limits.tpm is not None:
            found.append(_reading(Limit.TOKENS, limits.tpm, self.tokens, now_ns))

    def spend(self, at_us: int, tokens: int, cost_nanousd: int, but: Sequence[Account] = ()) -> None:
        """Count this for every budget, but for these accounts and those whose window began after the call did."""
        for (unit, _), account in self.accounts.items():
            account.advance(at_us)
            if account not in but and at_us >= account.window.begins_at:
                account.spent += cost_nanousd if unit is Unit.USD else tokens


class Share:
    """What one call has taken of one holder."""

    __slots__ = ("holds", "request", "short", "state", "taken", "tokens")

    def __init__(self, state: State, ask: Ask, now_ns: int, *, roomy: bool) -> None:
        limits, tokens = state.limits, ask.tokens
        self.state = state
        self.request: Part | None = None if limits.rpm is None else state.requests.take(1, now_ns)
        self.tokens: Part | None = None
        if limits.tpm is not None:
            self.taken = tokens if roomy else min(tokens, limits.tpm)
            self.tokens = state.tokens.take(self.taken, now_ns)
        state.slots += 1
        self.holds: list[tuple[bool, Hold]] = []
        holds = self.holds
        self.short = False  # does one hold less than the worst case?
        for line in state.lines:
            account, amount = line.account, ask.cost_nanousd if line.in_dollars else tokens
            if roomy:
                holds.append((line.in_dollars, Hold(account, amount)))
            else:
                beyond = max(0, amount - max(0, line.amount - account.spent - account.reserved - account.beyond))
                self.short = self.short or beyond > 0
                holds.append((line.in_dollars, Hold(account, amount - beyond, beyond)))


class MemoryGrant:
    """A Grant; see app.gateway.limits."""

    __slots__ = ("_at_us", "_shares", "cost_nanousd", "readings", "tokens")

    def __init__(self, ask: Ask, shares: list[Share], readings: list[RateReading]) -> None:
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

    def __init__(self, spending: Spending, now_ns: Callable[[], int], now_us: Callable[[], int]) -> None:
        self._spending = spending
        self._now_ns = now_ns
        self._now_us = now_us
        self._states: defaultdict[str, State] = defaultdict(State)

    def reserve(self, ask: Ask, answered: Answered) -> None:
        """As the port says; `answered` is called before this returns."""
        now_ns = self._now_ns()
        states = []
        roomy = True
        for holder in ask.holders:
            state = self._states[holder.name]
            if state.limits is not holder.limits and not state.bind(holder.limits):
                answered(StorageUnavailable("What was spent of a budget is not known yet. Try again in a moment."))
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

    def correct(  # noqa: PLR0913 - all that a correction is
        self,
        request_id: str,  # noqa: ARG002 - the only process hears of it once
        holders: Sequence[Holder],
        at_us: int,
        tokens: int,
        cost_nanousd: int,
        *,
        given_up: bool = False,  # noqa: ARG002 - and no other process can give up its calls
    ) -> None:
        """As the port says."""
        for holder in holders:
            self._states[holder.name].spend(at_us, tokens, cost_nanousd)

    async def prepare(self, holders: Sequence[Holder]) -> None:
        """As the port says."""
        at_us = self._now_us()
        for holder in holders:
            state = self._states[holder.name]
            for budget in holder.limits.budgets:
                fresh = Account(budget.period, at_us)
                spent = await self._spending.since(fresh.window.begins_at, holder.clients)
                account = state.accounts.setdefault((budget.unit, budget.period), fresh)
                account.advance(at_us)
                account.spent = spent.of(budget.unit)

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        """As the port says."""
        state = self._states[holder.name]
        if state.limits is not holder.limits and not state.bind(holder.limits):
            await self.prepare((holder,))
            state.bind(holder.limits)
        now_ns = self._now_ns()
        state.advance(at_us, now_ns)
        rates: list[RateReading] = []
        state.tell(now_ns, rates)
        return HolderReading(state.slots, rates, [line.reading() for line in state.lines])


def _refusal(ask: Ask, states: Sequence[State], now_ns: int) -> Refusal | None:
    """The limit in the way: a budget first, since no waiting mends that, else the longest wait."""
    longest, limit, whose = 0, Limit.REQUESTS, 0
    for place, state in enumerate(states):
        limits = state.limits
        line = state.lacking(ask)
        if line is not None:
            readings = _readings(states, now_ns)
            return Refusal(Limit.BUDGET, ask.holders[place], 0, readings, line.reading())
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
    return Refusal(limit, ask.holders[whose], longest, _readings(states, now_ns)) if longest else None


def _reading(kind: Limit, limit: int, rate: Rate, now_ns: int) -> RateReading:
    left, reset_ns = limit - rate.used, rate.free_at_ns - now_ns
    return RateReading(kind, limit, max(0, left), max(0, reset_ns))


def _readings(states: Sequence[State], now_ns: int) -> list[RateReading]:
    found: list[RateReading] = []
    for state in states:
        state.tell(now_ns, found)
    return found
