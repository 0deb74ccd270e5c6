"""A ledger that lags behind: budgets are shut until it is whole, and forget nothing meanwhile."""

import asyncio

import pytest

from app.domain.errors import StorageUnavailable
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period
from app.gateway.admission.spending import Spent
from app.gateway.limiter import Holder
from tests.contract.limiter_forms import MemoryForm
from tests.contract.test_limiter import ask_of, granted, reading

BUDGET = Limits(budgets=(Budget(Unit.USD, Period.DAY, 100),))
ALICE = Holder("client:alice", BUDGET, ("alice",))
LAG = StorageUnavailable("records wait")


def lagging(form: MemoryForm, *, at_midnight: bool = False) -> None:
    async def since(*_: object) -> Spent:
        if at_midnight:
            await form.pass_seconds(86_400)
            granted(await form.ask(ask_of(form, ALICE, cost=1)))
            return Spent(0, 90)
        raise LAG

    form.spending.since = since  # type: ignore[method-assign,assignment]


async def test_what_cannot_be_read_at_the_start_is_read_when_somebody_asks() -> None:
    form = MemoryForm()
    lagging(form)
    await form.limiter.prepare([ALICE])
    assert isinstance(await form.ask(ask_of(form, ALICE)), StorageUnavailable)
    with pytest.raises(StorageUnavailable):
        await reading(form, ALICE)
    del form.spending.since
    form.spending.spent["alice"] = Spent(0, 95)
    assert [b.spent for b in (await reading(form, ALICE)).budgets] == [95]


async def test_two_that_read_for_an_account_count_once() -> None:
    form = MemoryForm()
    lagging(form)
    await form.limiter.prepare([ALICE])

    async def slowly(*_: object) -> Spent:
        await asyncio.sleep(0.01)
        return Spent(0, 40)

    form.spending.since = slowly  # type: ignore[method-assign,assignment]
    assert isinstance(await form.ask(ask_of(form, ALICE)), StorageUnavailable)
    await form.limiter.prepare([ALICE])
    await asyncio.sleep(0.05)
    assert [b.spent for b in (await reading(form, ALICE)).budgets] == [40]


async def test_a_member_does_not_join_while_the_ledger_lags() -> None:
    form = MemoryForm()
    one, two = (Holder("group:team", BUDGET, members) for members in (("alice",), ("alice", "bob")))
    await form.limiter.prepare([one])
    lagging(form)
    with pytest.raises(StorageUnavailable):
        await form.limiter.prepare([two])


async def test_what_was_read_of_yesterday_does_not_count_today() -> None:
    form = MemoryForm()
    await form.limiter.prepare([ALICE])
    lagging(form, at_midnight=True)
    await form.limiter.prepare([Holder("client:alice", BUDGET, ("alice", "bob"))])
    assert [(b.spent, b.reserved) for b in (await reading(form, ALICE)).budgets] == [(0, 1)]
