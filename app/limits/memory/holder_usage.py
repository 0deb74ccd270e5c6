"""What one holder has used of its limits in this process: slots, rates, and an account for each budget."""

from collections.abc import Sequence

from app.domain.money.budgets import Account, Budget, Unit
from app.domain.money.limits import NO_LIMITS, Limits
from app.domain.money.rates import Rate, next_part_ns
from app.domain.money.windows import Period
from app.gateway.limiter import BudgetReading, Limit, LimitRequest, RateReading

AccountKey = tuple[Unit, Period]

_NEVER_US = 2**62


class BudgetState:
    """One budget of the current limits, and its account."""

    __slots__ = ("account", "amount", "budget", "in_dollars")

    def __init__(self, budget: Budget, account: Account) -> None:
        self.budget = budget
        self.amount = budget.amount
        self.in_dollars = budget.unit is Unit.USD
        self.account = account

    def reading(self) -> BudgetReading:
        """The budget and its account, as they are now."""
        account = self.account
        return BudgetReading(self.budget, account.spent, account.reserved, account.beyond, account.window.ends_at)


class HolderUsage:
    """What one holder has used. `budgets` are those of `limits`.

    Call advance() at `next_part_ns` or `window_ends_us`, whichever comes first; until then time changes nothing. The
    accounts have all that `clients` have spent, except for `shut` accounts, for which the ledger has not been read.
    """

    __slots__ = (
        *("accounts", "clients", "limits", "budgets", "next_part_ns", "requests", "shut", "slots", "tokens"),
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
        self.budgets: list[BudgetState] = []

    def bind(self, limits: Limits) -> bool:
        """Use these limits from now on. False if one of their budgets has no open account."""
        keys = [(budget.unit, budget.period) for budget in limits.budgets]
        if not all(key in self.accounts and key not in self.shut for key in keys):
            return False
        self.budgets = [
            BudgetState(budget, self.accounts[key]) for budget, key in zip(limits.budgets, keys, strict=True)
        ]
        self.limits = limits
        self.window_ends_us = 0
        return True

    def advance(self, at_us: int, now_ns: int) -> None:
        """Advance the rates, and the windows of budgets."""
        self.requests.advance(now_ns)
        self.tokens.advance(now_ns)
        self.next_part_ns = next_part_ns(now_ns)
        self.window_ends_us = _NEVER_US
        for budget in self.budgets:
            budget.account.advance(at_us)
            ends_at = budget.account.window.ends_at
            if ends_at is not None and ends_at < self.window_ends_us:
                self.window_ends_us = ends_at

    def has_room(self, ask: LimitRequest) -> bool:
        """Whether the worst case fits into all limits. If not, lacking() and the rates decide. Call advance() first."""
        limits = self.limits
        if limits.rpm is not None and self.requests.used >= limits.rpm:
            return False
        if limits.tpm is not None and self.tokens.used + ask.tokens > limits.tpm:
            return False
        if limits.concurrency is not None and self.slots >= limits.concurrency:
            return False
        for budget in self.budgets:
            account = budget.account
            left = budget.amount - account.spent - account.reserved - account.beyond
            if left < ((ask.cost_nanousd if budget.in_dollars else ask.tokens) or 1):
                return False
        return True

    def lacking(self, ask: LimitRequest) -> BudgetState | None:
        """A budget that has too little left. A call that costs nothing in its unit only needs one that is not spent."""
        for budget in self.budgets:
            amount = ask.cost_nanousd if budget.in_dollars else ask.tokens
            account = budget.account
            left = budget.amount - account.spent
            if left <= 0:
                return budget
            left -= account.reserved + account.beyond
            if left < (1 if ask.last_call else amount) and amount > 0:
                return budget
        return None

    def add_readings(self, now_ns: int, found: list[RateReading]) -> None:
        """Add the readings of its rates. Call advance() first."""
        limits = self.limits
        if limits.rpm is not None:
            found.append(_reading(Limit.REQUESTS, limits.rpm, self.requests, now_ns))
        if limits.tpm is not None:
            found.append(_reading(Limit.TOKENS, limits.tpm, self.tokens, now_ns))

    def spend(self, at_us: int, tokens: int, cost_nanousd: int, but: Sequence[Account] = ()) -> None:
        """Count this for every budget, except the accounts in `but` and those whose window began after the call."""
        for (unit, _), account in self.accounts.items():
            account.advance(at_us)
            if account not in but and at_us >= account.window.begins_at:
                account.spent += cost_nanousd if unit is Unit.USD else tokens


def _reading(kind: Limit, limit: int, rate: Rate, now_ns: int) -> RateReading:
    left, reset_ns = limit - rate.used, rate.free_at_ns - now_ns
    return RateReading(kind, limit, max(0, left), max(0, reset_ns))
