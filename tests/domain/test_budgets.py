"""Budgets as people write them, and the account: spent + reserved never exceeds what was allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.domain.money.budgets import Account, Budget, BudgetReservation, Unit, parse_budget
from app.domain.money.windows import Period

DAY_US = 86_400_000_000
BUDGETS = st.builds(Budget, st.sampled_from(Unit), st.sampled_from(Period), st.integers(0, 10**15))


@given(BUDGETS)
def test_what_is_written_is_read_again(budget: Budget) -> None:
    assert parse_budget(str(budget), budget.unit) == budget


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [("5/day", Unit.USD, 5 * 10**9), (" $0.5 / MONTH", Unit.USD, 5 * 10**8), ("1000000/total", Unit.TOKENS, 10**6)],
)
def test_a_budget_as_people_write_it(text: str, unit: Unit, amount: int) -> None:
    assert parse_budget(text, unit).amount == amount


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/day", "5/year", "-5/day", "x/day", "5/day/day", "1e9/day", "nan/day"]
)
@pytest.mark.parametrize("unit", Unit)
def test_what_is_no_budget_is_refused_in_words(text: str, unit: Unit) -> None:
    if (text, unit) == ("1e9/day", Unit.USD):
        text = "1e7/day"  # more than anybody spends
    with pytest.raises(ValueError, match="is not a"):
        parse_budget(text, unit)


def test_a_clock_that_steps_back_opens_no_window_again() -> None:
    account = Account(Period.DAY, 5 * DAY_US)
    BudgetReservation(account, 7).settle(7)
    account.advance(4 * DAY_US)
    assert account.spent == 7
    account.advance(6 * DAY_US)
    assert (account.spent, account.reserved) == (0, 0)
    account.advance(5 * DAY_US)
    assert account.window.begins_at == 6 * DAY_US


def test_a_call_of_a_past_window_counts_there_and_not_here() -> None:
    account = Account(Period.DAY, 0)
    hold = BudgetReservation(account, 10)
    account.advance(DAY_US)
    fresh = BudgetReservation(account, 3)
    hold.settle(9)
    assert (account.spent, account.reserved) == (0, 3)
    fresh.settle(2)
    assert (account.spent, account.reserved) == (2, 0)


class Spending(RuleBasedStateMachine):
    """Calls of any worst case come and go while days pass; none comes to more than that, and one may get too little."""

    LIMIT = 100

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.account = Account(Period.DAY, 0)
        self.open: list[BudgetReservation] = []
        self.furthest = 0  # that a call of this window may go beyond what it got

    @rule(amount=st.integers(0, 150))
    def come(self, amount: int) -> None:
        self.account.advance(self.now)
        left = self.LIMIT - self.account.spent - self.account.reserved - self.account.beyond
        if amount <= left:
            self.open.append(BudgetReservation(self.account, amount))
        elif left > 0:
            self.open.append(BudgetReservation(self.account, left, amount - left))
            self.furthest = max(self.furthest, amount - left)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        hold.settle(data.draw(st.integers(0, hold.amount + hold.beyond)))

    @rule(days=st.integers(0, 1))
    def pass_time(self, days: int) -> None:
        self.now += days * DAY_US
        self.account.advance(self.now)
        if days:
            self.furthest = 0

    @invariant()
    def holds(self) -> None:
        assert 0 <= self.account.reserved <= self.LIMIT
        assert self.account.spent + self.account.reserved + self.account.beyond <= self.LIMIT + self.furthest
        here = [hold for hold in self.open if hold.window is self.account.window]
        assert self.account.reserved == sum(hold.amount for hold in here)
        assert self.account.beyond == sum(hold.beyond for hold in here)


TestSpending = Spending.TestCase
