"""The port of what limits calls: everything that one call needs of all limits, taken at once or not at all.

    Admission ──Ask──> Limiter ──> Grant ──────────> the exchange goes upstream; settle() once, on every exit
                               ──> Refusal ────────> 429, by the limit that is in the way
                               ──> ApiError ───────> 503: the limits cannot be judged

A call may be limited twice, as its client's and as its group's: each is a Holder. Rates and slots are for the moment;
budgets start from what the ledger says was spent. Amounts are tokens (input and output together) and nano-dollars.
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
    """Who is limited. `name` is `client:NAME` or `group:NAME`, `clients` are all whose calls count: itself or members.

    The limits are those of the moment and may differ from one call to the next; what was taken stays taken.
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
        """As people know it."""
        return self.name.partition(":")[2]


class LimitRequest(NamedTuple):
    """What one call wants: a slot and a request of each holder, and at the most so many tokens and so much money.

    `at_us` is when the call began, wall time: it decides the windows of budgets, as it does in the ledger.
    With `last_call` a budget of which something is left lets a call in that may come to more, and sets all the rest
    aside for it: so one call at the most, and no two at once, can take a budget beyond its end.
    """

    request_id: str
    holders: tuple[Holder, ...]
    at_us: int
    tokens: int
    cost_nanousd: int
    last_call: bool


class Limit(StrEnum):
    """What can be in a call's way."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    BUDGET = "budget"


class RateReading(NamedTuple):
    """A rate after a call was granted or refused. `reset_ns` is how long until nothing of it is taken."""

    kind: Limit  # REQUESTS or TOKENS
    limit: int
    remaining: int
    reset_ns: int


@dataclass(slots=True, frozen=True)
class BudgetReading:
    """A budget and its account. `resets_at` is in microseconds UTC, None for one without an end.

    What is left is kept, as far as `beyond`, for a call that got less than its worst case: the last one of its window.
    """

    budget: Budget
    spent: int
    reserved: int
    beyond: int
    resets_at: int | None

    @property
    def left(self) -> int:
        """What can still be set aside; 0 when nothing."""
        return max(0, self.budget.amount - self.spent - self.reserved - self.beyond)


@dataclass(slots=True, frozen=True)
class LimitRefusal:
    """Nothing was taken. Of several limits in the way, `limit` is a budget, or else the one that takes longest.

    `wait_ns`: when to come again (rates: exact; slots: a guess; budgets: 0). `budget` is there when that is the limit.
    """

    limit: Limit
    holder: Holder
    wait_ns: int
    readings: Sequence[RateReading]
    budget: BudgetReading | None = None


class Grant(Protocol):
    """What was taken for one call. Whoever has it calls settle() or give_back() once, whatever happens."""

    readings: Sequence[RateReading]
    """Rates of all holders, after the taking."""
    tokens: int
    cost_nanousd: int
    """What the budgets have set aside: what was asked for, or less for a last call."""

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        """The call is over and came to this: the slot is free, rates and budgets are corrected.

        Never raises and never blocks: what cannot be told to a store now is told later.
        """

    def give_back(self) -> None:
        """The call was never sent: everything is as if it had not been, its request too. As settle() otherwise."""


Answered = Callable[[Grant | LimitRefusal | ApiError], None]


@dataclass(slots=True, frozen=True)
class HolderReading:
    """How a holder stands at one moment."""

    concurrency: int
    rates: Sequence[RateReading]
    budgets: Sequence[BudgetReading]


@dataclass(slots=True, frozen=True)
class Amendment:
    """A settled call, begun at `at_us`, came to so much more than the ledger had, or less.

    `given_up`: it was closed for its process. If that is alive after all, what it settles counts, not both.
    """

    request_id: str
    holders: Sequence[Holder]
    at_us: int
    tokens: int
    cost_nanousd: int
    given_up: bool = False


class Limiter(Protocol):
    """Keeps what is taken of all limits. Two calls never take the same.

    For every holder and budget, at every moment: spent + reserved <= amount, but for what a settled call has come to
    beyond what was set aside for it, and for an amount that was lowered.
    """

    def reserve(self, ask: LimitRequest, answered: Answered) -> None:
        """Take everything or nothing. `answered` is called once, on the loop: before this returns, or later.

        An Ask whose tokens exceed a whole `tpm` waits until nothing is taken of that and then takes it all. A Refusal
        takes nothing, of rates neither. An ApiError (StorageUnavailable) says that limits cannot be judged.
        """

    def correct(self, amendment: Amendment) -> None:
        """Books have told what a settled call came to: budgets follow, once.

        Several processes may hear of it, since each takes up at its start what the ledger has unsettled.
        """

    async def prepare(self, holders: Sequence[Holder], before: Mapping[str, Holder] | None = None) -> None:
        """These holders count from now on, or again with other limits or members: budgets start from the ledger.

        Called before any of their calls, and again at each change. What their open calls hold stays held. At a change
        of terms `before` are all holders, by name, as they were: a budget that is not among theirs is new, and no
        process can hold anything of it.
        """

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        """How a holder stands now."""
