"""A Budget is how much may be spent in a window, and an Account is what has been spent and reserved of it.

    limit  |=== spent ===|--- reserved ---|      left      |
                          ^ the worst case of each open call. The last call of a window may need more than is left:
                            its part `beyond` the limit is kept free for it as other calls come to less

Amounts are whole nano-dollars or tokens (input and output together).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from app.domain.answer.usage import MAX_TOKENS
from app.domain.money.amounts import format_usd, parse_usd
from app.domain.money.windows import Period, Window, window_of

_TOKENS = re.compile(r"\d{1,16}")


class Unit(StrEnum):
    """What a budget counts."""

    USD = "usd"
    TOKENS = "tokens"


@dataclass(slots=True, frozen=True)
class Budget:
    """`amount` is in nano-dollars or tokens, by the unit."""

    unit: Unit
    period: Period
    amount: int

    @property
    def amount_text(self) -> str:
        """The amount as people write it: decimal US dollars, or a count."""
        return format_usd(self.amount) if self.unit is Unit.USD else str(self.amount)

    def __str__(self) -> str:
        """As parse_budget reads it."""
        return f"{self.amount_text}/{self.period}"


def parse_budget(text: str, unit: Unit) -> Budget:
    """Read `5/day` or `1000000/total`. Raises ValueError with a message for the user."""
    amount_text, slash, period_text = text.strip().partition("/")
    if not slash or period_text.strip().lower() not in set(Period):
        raise ValueError(f"{text[:40]!r} is not a budget: write AMOUNT/PERIOD, PERIOD being day, week, month or total")
    return Budget(unit, Period(period_text.strip().lower()), parse_amount(amount_text.strip(), unit))


def parse_amount(text: str, unit: Unit) -> int:
    """An amount as people write it, in nano-dollars or tokens. Raises ValueError with a message for the user."""
    if unit is Unit.USD:
        amount = parse_usd(text.removeprefix("$"))
        if amount is None:
            raise ValueError(f"{text[:40]!r} is not an amount of US dollars")
        return amount
    if not _TOKENS.fullmatch(text) or int(text) > MAX_TOKENS:
        raise ValueError(f"{text[:40]!r} is not a number of tokens")
    return int(text)


class Account:
    """What one client or group has spent of a unit in the current window, and what its open calls reserve.

    A window is only followed by a later one: a clock that steps back does not give a spent budget back.
    """

    __slots__ = ("beyond", "period", "reserved", "spent", "window")

    def __init__(self, period: Period, at_us: int, spent: int = 0) -> None:
        self.period = period
        self.window: Window = window_of(period, at_us)
        self.spent = spent
        self.reserved = 0
        self.beyond = 0  # what open calls may come to beyond their reservations; it is kept free for them

    def advance(self, at_us: int) -> None:
        """Begin the next window if the old one is over. What calls of the old window reserve and spend stays there."""
        ends_at = self.window.ends_at
        if ends_at is not None and at_us >= ends_at:
            self.window = window_of(self.period, at_us)
            self.spent = self.reserved = self.beyond = 0


class BudgetReservation:
    """What an account reserves for one call. The call may come to `beyond` more."""

    __slots__ = ("account", "amount", "beyond", "window")

    def __init__(self, account: Account, amount: int, beyond: int = 0) -> None:
        self.account = account
        self.window = account.window
        self.amount = amount
        self.beyond = beyond
        account.reserved += amount
        if beyond:
            account.beyond += beyond

    def settle(self, spent: int) -> None:
        """Release the reservation and count what the call came to. Must be called once."""
        account = self.account
        if self.window is account.window:
            account.reserved -= self.amount
            account.spent += spent
            if self.beyond:
                account.beyond -= self.beyond
