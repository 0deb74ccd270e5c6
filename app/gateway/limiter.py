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


class Line:
    """One budget of the limits in force, and its account."""

    __slots__ = ("account", "budget", "in_dollars")

    def __init__(self, budget: Budget, account: Account) -> None:
        self.budget = budget
        self.in_dollars = budget.unit is Unit.USD
        self.account = account

    def reading(self) -> BudgetReading:
        """As it stands."""
        account = self.account
        return BudgetReading(self.budget, account.spent, account.reserved, account.beyond, account.window.ends_at)


class State:
    """What is taken of one holder's limits. `limits` are those that `lines` are for."""

    __slots__ = ("_next_part_ns", "accounts", "limits", "lines", "requests", "slots", "tokens")

    def __init__(self) -> None:
        self._next_part_ns = 0
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
        return True

    def advance(self, at_us: int, now_ns: int) -> None:
        """Let time pass: for rates, for the windows of budgets."""
        if now_ns >= self._next_part_ns:
            self.requests.advance(now_ns)
            self.tokens.advance(now_ns)
            self._next_part_ns = next_part_ns(now_ns)
        for line in self.lines:
            ends_at = line.account.window.ends_at
            if ends_at is not None and at_us >= ends_at:
                line.account.advance(at_us)

    def lacking(self, ask: Ask) -> Line | None:
        """A budget that has too little left. To a call that costs nothing of its unit only a spent one matters."""
        for line in self.lines:
            amount = ask.cost_nanousd if line.in_dollars else ask.tokens
            account = line.account
            left = line.budget.amount - account.spent
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
            left = max(0, limits.rpm - self.requests.used)
            found.append(RateReading(Limit.REQUESTS, limits.rpm, left, self.requests.reset_ns(now_ns)))
        if limits.tpm is not None:
            left = max(0, limits.tpm - self.tokens.used)
            found.append(RateReading(Limit.TOKENS, limits.tpm, left, self.tokens.reset_ns(now_ns)))

    def spend(self, at_us: int, tokens: int, cost_nanousd: int, but: Sequence[Account] = ()) -> None:
        """Count this for every budget, but for these accounts and those whose window began after the call did."""
        for (unit, _), account in self.accounts.items():
            account.advance(at_us)
            if account not in but and at_us >= account.window.begins_at:
                account.spent += cost_nanousd if unit is Unit.USD else tokens


class Share:
    """What one call has taken of one holder."""

    __slots__ = ("holds", "request", "short", "state", "taken", "tokens")

    def __init__(self, state: State, ask: Ask, now_ns: int) -> None:
        limits = state.limits
        self.state = state
        self.request: Part | None = None if limits.rpm is None else state.requests.take(1, now_ns)
        self.tokens: Part | None = None
        self.taken = 0
        if limits.tpm is not None:
            self.taken = min(ask.tokens, limits.tpm)
            self.tokens = state.tokens.take(self.taken, now_ns)
        state.slots += 1
        self.holds: list[tuple[bool, Hold]] = []
        self.short = False  # does one hold less than the worst case?
        for line in state.lines:
            account, amount = line.account, ask.cost_nanousd if line.in_dollars else ask.tokens
            beyond = amount - (line.budget.amount - account.spent - account.reserved - account.beyond)
            if beyond > 0 and amount:
                self.short = True
                self.holds.append((line.in_dollars, Hold(account, amount - beyond, beyond)))
            else:
                self.holds.append((line.in_dollars, Hold(account, amount)))


class MemoryGrant:
    """A Grant; see app.gateway.limits."""

    __slots__ = ("_at_us", "_shares", "cost_nanousd", "readings", "tokens")

    def __init__(self, ask: Ask, shares: list[Share], readings: list[RateReading]) -> None:
        self.readings: Sequence[RateReading] = readings
        self.tokens, self.cost_nanousd = ask.tokens, ask.cost_nanousd
        self._at_us = ask.at_us
        self._shares = shares
        for share in shares:
            for in_dollars, hold in share.holds if share.short else ():
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
            state = share.state
            state.slots -= 1
            if share.tokens is not None:
                state.tokens.correct(share.tokens, tokens - share.taken)
            for in_dollars, hold in share.holds:
                hold.settle(cost_nanousd if in_dollars else tokens)
            if len(share.holds) < len(state.accounts):  # a budget was set while the call was under way
                state.spend(self._at_us, tokens, cost_nanousd, but=[hold.account for _, hold in share.holds])


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
        for holder in ask.holders:
            state = self._states[holder.name]
            if state.limits is not holder.limits and not state.bind(holder.limits):
                answered(StorageUnavailable("What was spent of a budget is not known yet. Try again in a moment."))
                return
            state.advance(ask.at_us, now_ns)
            states.append(state)
        refusal = _refusal(ask, states, now_ns)
        if refusal is not None:
            answered(refusal)
            return
        shares: list[Share] = []
        readings: list[RateReading] = []
        for state in states:
            shares.append(Share(state, ask, now_ns))
            state.tell(now_ns, readings)
        answered(MemoryGrant(ask, shares, readings))

    def correct(self, holders: Sequence[Holder], at_us: int, tokens: int, cost_nanousd: int) -> None:
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


def _readings(states: Sequence[State], now_ns: int) -> list[RateReading]:
    found: list[RateReading] = []
    for state in states:
        state.tell(now_ns, found)
    return found
