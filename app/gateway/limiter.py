"""The Limiter port: takes everything that one call needs of all limits at once, or nothing.

    Admission ──LimitRequest──> Limiter ──> Grant ─────────> the exchange goes upstream; settle() once, on every exit
                                        ──> LimitRefusal ──> 429, by the limit that is in the way
                                        ──> ApiError ──────> 503: the limits cannot be checked

A call may have two holders, its client and its group. Rates and slots are lost with the process or the Redis server;
budgets start from what was spent by the ledger. Amounts are tokens (input and output together) and nano-dollars.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from app.domain.errors import ApiError
from app.domain.money.budgets import Budget
from app.domain.money.limits import Limits


@dataclass(slots=True, frozen=True)
class Holder:
    """A client or group with limits. `name` is `client:NAME` or `group:NAME`; `clients` are those whose calls count.

    The limits may differ from one call to the next; what was taken stays taken.
    """

    name: str
    limits: Limits
    clients: tuple[str, ...]

    @property
    def kind(self) -> str:
        """`client` or `group`."""
        return self.name.partition(":")[0]

    @property
    def own_name(self) -> str:
        """The name of the client or group."""
        return self.name.partition(":")[2]


class LimitRequest(NamedTuple):
    """What one call asks for: a slot and a request of each holder, and its worst case in tokens and nano-dollars.

    `at_us` is when the call began (microseconds UTC), which decides the windows of budgets, as in the ledger. With
    `last_call`, a budget with something left admits a call that may come to more, and reserves all the rest for it. So
    only one call at a time can exceed a budget.
    """

    request_id: str
    holders: tuple[Holder, ...]
    at_us: int
    tokens: int
    cost_nanousd: int
    last_call: bool


class Limit(StrEnum):
    """The kinds of limits."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    BUDGET = "budget"


class RateReading(NamedTuple):
    """A rate after a call was granted or refused. `reset_ns` is how long until nothing of it is used."""

    kind: Limit  # REQUESTS or TOKENS
    limit: int
    remaining: int
    reset_ns: int


@dataclass(slots=True, frozen=True)
class BudgetReading:
    """A budget and its account. `resets_at` is in microseconds UTC, None for a budget without an end.

    `beyond` is kept free for the last call of the window, whose reservation is less than its worst case.
    """

    budget: Budget
    spent: int
    reserved: int
    beyond: int
    resets_at: int | None

    @property
    def left(self) -> int:
        """What can still be reserved."""
        return max(0, self.budget.amount - self.spent - self.reserved - self.beyond)


@dataclass(slots=True, frozen=True)
class LimitRefusal:
    """Nothing was taken. Of several limits in the way, `limit` is a budget, or else the one with the longest wait.

    `wait_ns` is exact for rates, a guess for slots and 0 for budgets. `budget` is set if `limit` is a budget.
    """

    limit: Limit
    holder: Holder
    wait_ns: int
    readings: Sequence[RateReading]
    budget: BudgetReading | None = None


class Grant(Protocol):
    """What was taken for one call. Its owner calls settle() or give_back() once, however the call ends.

    Neither raises or blocks; a Redis server that is away gets the news later. A second call does nothing.
    """

    readings: Sequence[RateReading]
    """The rates of all holders after this call."""
    tokens: int
    cost_nanousd: int
    """What the budgets reserve: what was asked for, or less for a last call."""

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        """The call has ended and came to this: free its slot, correct its rates and budgets."""

    def give_back(self) -> None:
        """The call was never sent: take everything back, its request too."""


Answered = Callable[[Grant | LimitRefusal | ApiError], None]


@dataclass(slots=True, frozen=True)
class HolderReading:
    """What a holder has used of its limits, at one moment."""

    concurrency: int
    rates: Sequence[RateReading]
    budgets: Sequence[BudgetReading]


@dataclass(slots=True, frozen=True)
class Amendment:
    """A settled call, begun at `at_us`, came to so much more (or less) than the ledger had.

    `given_up`: another process closed the call. If its own process is alive after all, only what that settles counts.
    """

    request_id: str
    holders: Sequence[Holder]
    at_us: int
    tokens: int
    cost_nanousd: int
    given_up: bool = False


class Limiter(Protocol):
    """Keeps what is taken of all limits.

    For every holder and budget, at every moment: spent + reserved <= amount, except for what a settled call came to
    beyond its reservation, and for an amount that was lowered.
    """

    def reserve(self, ask: LimitRequest, answered: Answered) -> None:
        """Take everything or nothing.

        Args:
            ask: the call. If its tokens exceed a whole `tpm`, it is refused until nothing of that rate is used, and
                then takes all of it.
            answered: called once, on the loop, before this returns or later: with a Grant, a LimitRefusal (nothing was
                taken) or StorageUnavailable (the limits cannot be checked).

        """

    def correct(self, amendment: Amendment) -> None:
        """Correct the budgets of an amended call, once, even if several processes report it."""

    async def prepare(self, holders: Sequence[Holder], before: Mapping[str, Holder] | None = None) -> None:
        """Open the accounts of these holders from the ledger. Called before their first call, and at each change.

        Args:
            holders: who is limited from now on, or again with other limits or members. What their open calls hold
                stays held.
            before: at a change of terms, all holders by name as they were. No process can hold anything of a budget
                that is not among theirs.

        Raises:
            StorageUnavailable: the ledger cannot be read.

        """

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        """What a holder has used now. Raises StorageUnavailable."""
