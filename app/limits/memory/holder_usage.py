"""What is taken of one holder's limits, in this process: slots, rates, and an account for each budget."""

from collections.abc import Sequence

from app.domain.money.budgets import Account, Budget, Unit
from app.domain.money.limits import NO_LIMITS, Limits
from app.domain.money.rates import Rate, next_part_ns
from app.domain.money.windows import Period
from app.gateway.limiter import BudgetReading, Limit, LimitRequest, RateReading

AccountKey = tuple[Unit, Period]

_NEVER_US = 2**62


class BudgetState:
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


class HolderUsage:
    """What is taken of one holder's limits. `limits` are those that `lines` are for.

    Until `next_part_ns` and `window_ends_us` time changes nothing: advance() is for whichever comes first. The accounts
    have all that `clients` have spent, but for those that are `shut`: the ledger has not been read for them.
    """

    __slots__ = (
        *("accounts", "clients", "limits", "lines", "next_part_ns", "requests", "shut", "slots", "tokens"),
        "window_ends_us",
    )

    def __init__(self) -> None:
        self.next_part_ns = self.window_ends_us = 0
        self.slots = 0
        self.requests = Rate()
        self.tokens = Rate()
        self.accounts: dict[AccountKey, Account] = {}
        self.shut: set[AccountKey] = set()
        self.clients: Sequence[str] = ()
        self.limits = NO_LIMITS
        self.lines: list[BudgetState] = []

    def bind(self, limits: Limits) -> bool:
        """Hold to these limits from now on. False when there is no open account for a budget of theirs."""
        keys = [(budget.unit, budget.period) for budget in limits.budgets]
        if not all(key in self.accounts and key not in self.shut for key in keys):
            return False
        self.lines = [BudgetState(budget, self.accounts[key]) for budget, key in zip(limits.budgets, keys, strict=True)]
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

    def has_room(self, ask: LimitRequest) -> bool:
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

    def lacking(self, ask: LimitRequest) -> BudgetState | None:
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


def _reading(kind: Limit, limit: int, rate: Rate, now_ns: int) -> RateReading:
    left, reset_ns = limit - rate.used, rate.free_at_ns - now_ns
    return RateReading(kind, limit, max(0, left), max(0, reset_ns))
