"""The contract of the Limiter port: everything a call needs is taken at once or not at all, and comes back."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period, window_of
from app.gateway.admission.spending import Spent
from app.gateway.limiter import Amendment, Grant, Holder, HolderReading, Limit, LimitRefusal, LimitRequest
from tests.contract.limiter_forms import Answer, MemoryForm, RedisForm

DOLLAR = 10**9


@pytest.fixture(params=["memory", "redis"])
async def form(request: pytest.FixtureRequest) -> AsyncIterator[MemoryForm]:
    if request.param == "memory":
        yield MemoryForm()
        return
    server, database = request.getfixturevalue("valkey"), request.getfixturevalue("redis_database")
    async with RedisForm.open(server, database) as redis:
        yield redis


def holder(name: str = "client:alice", *clients: str, **limits: Any) -> Holder:  # noqa: ANN401 - Limits' own fields
    return Holder(name, Limits(**limits), clients or (name.partition(":")[2],))


def usd(amount: int, period: Period = Period.DAY) -> Budget:
    return Budget(Unit.USD, period, amount)


def tokens(amount: int, period: Period = Period.DAY) -> Budget:
    return Budget(Unit.TOKENS, period, amount)


def ask_of(
    form: MemoryForm, *holders: Holder, tokens: int = 100, cost: int = 10, last_call: bool = False
) -> LimitRequest:
    return LimitRequest("req_1", holders, form.us, tokens, cost, last_call)


def granted(answer: Answer) -> Grant:
    assert not isinstance(answer, LimitRefusal | Exception), answer
    return answer


def refused(answer: Answer) -> LimitRefusal:
    assert isinstance(answer, LimitRefusal), answer
    return answer


async def reading(form: MemoryForm, who: Holder) -> HolderReading:
    return await form.limiter.reading(who, form.us)


# -- slots -----------------------------------------------------------------------------------------------------


async def test_there_are_so_many_slots_and_each_comes_back_once(form: MemoryForm) -> None:
    alice = holder(concurrency=2)
    await form.limiter.prepare([alice])
    first = granted(await form.ask(ask_of(form, alice)))
    second = granted(await form.ask(ask_of(form, alice)))
    no = refused(await form.ask(ask_of(form, alice)))
    assert (no.limit, no.holder) == (Limit.CONCURRENCY, alice)
    assert no.wait_ns > 0
    first.settle(1, 1)
    await form.settled()
    granted(await form.ask(ask_of(form, alice))).give_back()
    second.settle(1, 1)
    await form.settled()
    assert (await reading(form, alice)).concurrency == 0


# -- rates -----------------------------------------------------------------------------------------------------


async def test_requests_of_a_minute(form: MemoryForm) -> None:
    alice = holder(rpm=3)
    for left in (2, 1, 0):
        grant = granted(await form.ask(ask_of(form, alice)))
        assert [(r.kind, r.limit, r.remaining) for r in grant.readings] == [(Limit.REQUESTS, 3, left)]
        grant.settle(5, 5)
        await form.pass_seconds(1)
    no = refused(await form.ask(ask_of(form, alice)))
    assert no.limit is Limit.REQUESTS
    assert 56.9e9 <= no.wait_ns <= 57.3e9
    await form.pass_seconds(no.wait_ns / 1e9)
    granted(await form.ask(ask_of(form, alice))).settle(0, 0)


async def test_tokens_are_taken_by_the_worst_case_and_corrected(form: MemoryForm) -> None:
    alice = holder(tpm=100)
    grant = granted(await form.ask(ask_of(form, alice, tokens=90)))
    assert refused(await form.ask(ask_of(form, alice, tokens=20))).limit is Limit.TOKENS
    grant.settle(30, 0)
    await form.settled()
    again = granted(await form.ask(ask_of(form, alice, tokens=70)))
    assert [(r.kind, r.remaining) for r in again.readings] == [(Limit.TOKENS, 0)]
    again.settle(100, 0)  # more than was taken
    await form.settled()
    assert refused(await form.ask(ask_of(form, alice, tokens=1))).limit is Limit.TOKENS


async def test_a_call_larger_than_a_minute_waits_for_an_empty_one(form: MemoryForm) -> None:
    alice = holder(tpm=100)
    granted(await form.ask(ask_of(form, alice, tokens=1))).settle(1, 0)
    await form.settled()
    no = refused(await form.ask(ask_of(form, alice, tokens=5000)))
    await form.pass_seconds(no.wait_ns / 1e9)
    granted(await form.ask(ask_of(form, alice, tokens=5000))).settle(7, 0)
    await form.settled()
    assert [r.remaining for r in (await reading(form, alice)).rates] == [93]


async def test_who_never_went_upstream_has_used_nothing(form: MemoryForm) -> None:
    alice = holder(rpm=1, tpm=100, concurrency=1, budgets=(usd(10), tokens(100)))
    await form.limiter.prepare([alice])
    for _ in range(3):
        granted(await form.ask(ask_of(form, alice))).give_back()
        await form.settled()
    now = await reading(form, alice)
    assert now.concurrency == 0
    assert [r.remaining for r in now.rates] == [1, 100]
    assert [(b.spent, b.reserved) for b in now.budgets] == [(0, 0), (0, 0)]


# -- budgets ---------------------------------------------------------------------------------------------------


async def test_five_hundred_at_once_on_a_budget_for_five(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(50),))
    await form.limiter.prepare([alice])
    answers = await asyncio.gather(*(form.ask(ask_of(form, alice)) for _ in range(500)))
    grants = [answer for answer in answers if not isinstance(answer, LimitRefusal | Exception)]
    assert len(grants) == 5
    no = refused(next(answer for answer in answers if isinstance(answer, LimitRefusal)))
    assert no.limit is Limit.BUDGET
    assert no.budget is not None
    assert (no.budget.spent, no.budget.reserved, no.budget.left) == (0, 50, 0)
    for grant in grants:
        grant.settle(100, 10)
    await form.settled()
    no = refused(await form.ask(ask_of(form, alice)))
    assert no.budget is not None
    assert (no.budget.spent, no.budget.reserved) == (50, 0)
    assert no.budget.resets_at == window_of(Period.DAY, form.us).ends_at


async def test_what_was_not_used_comes_back(form: MemoryForm) -> None:
    alice = holder(budgets=(tokens(150),))
    await form.limiter.prepare([alice])
    granted(await form.ask(ask_of(form, alice, tokens=100))).settle(20, 0)
    await form.settled()
    assert [(b.spent, b.reserved, b.left) for b in (await reading(form, alice)).budgets] == [(20, 0, 130)]
    granted(await form.ask(ask_of(form, alice, tokens=130)))
    refused(await form.ask(ask_of(form, alice, tokens=1)))


async def test_the_last_call_takes_all_that_is_left(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(25),))
    await form.limiter.prepare([alice])
    asked = [await form.ask(ask_of(form, alice, last_call=True)) for _ in range(4)]
    grants = [granted(answer) for answer in asked[:3]]
    refused(asked[3])
    assert [grant.cost_nanousd for grant in grants] == [10, 10, 5]
    for grant in grants:
        grant.settle(0, 10)
    await form.settled()
    assert [(b.spent, b.reserved, b.left) for b in (await reading(form, alice)).budgets] == [(30, 0, 0)]
    refused(await form.ask(ask_of(form, alice, last_call=True)))


async def test_what_comes_back_while_the_last_call_is_under_way_is_kept_for_it(form: MemoryForm) -> None:
    """Else every call that takes less than its worst case would let another last one in, and all of them overrun."""
    alice = holder(budgets=(usd(100),))
    await form.limiter.prepare([alice])
    first, last = [granted(await form.ask(ask_of(form, alice, cost=60, last_call=True))) for _ in range(2)]
    assert last.cost_nanousd == 40
    first.settle(0, 45)
    await form.settled()
    for last_call in (True, False):
        no = refused(await form.ask(ask_of(form, alice, cost=1, last_call=last_call)))
        assert no.budget is not None
        assert (no.budget.spent, no.budget.reserved, no.budget.beyond, no.budget.left) == (45, 40, 20, 0)
    (now,) = (await reading(form, alice)).budgets
    assert (now.spent, now.reserved, now.beyond, now.left) == (45, 40, 20, 0)
    granted(await form.ask(ask_of(form, alice, cost=0, last_call=True))).settle(0, 0)
    last.settle(0, 50)
    await form.settled()
    again = granted(await form.ask(ask_of(form, alice, cost=60, last_call=True)))
    assert again.cost_nanousd == 5
    again.give_back()


async def test_a_call_that_costs_nothing_passes_unless_the_budget_is_spent(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(10),))
    await form.limiter.prepare([alice])
    whole = granted(await form.ask(ask_of(form, alice, cost=10)))
    for last_call in (True, False):
        granted(await form.ask(ask_of(form, alice, cost=0, last_call=last_call))).settle(0, 0)
    whole.settle(0, 10)
    await form.settled()
    for last_call in (True, False):
        refused(await form.ask(ask_of(form, alice, cost=0, last_call=last_call)))


async def test_several_budgets_hold_together_and_a_refusal_takes_nothing(form: MemoryForm) -> None:
    alice = holder(rpm=9, concurrency=9, budgets=(usd(100, Period.DAY), usd(15, Period.MONTH), tokens(1000)))
    await form.limiter.prepare([alice])
    granted(await form.ask(ask_of(form, alice)))
    no = refused(await form.ask(ask_of(form, alice)))
    assert no.budget is not None
    assert no.budget.budget.period is Period.MONTH
    now = await reading(form, alice)
    assert [b.reserved for b in now.budgets] == [10, 10, 100]
    assert (now.concurrency, now.rates[0].remaining) == (1, 8)


async def test_a_new_day_has_a_new_budget_and_old_calls_do_not_count_in_it(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(10, Period.DAY), usd(100, Period.TOTAL)))
    await form.limiter.prepare([alice])
    late = granted(await form.ask(ask_of(form, alice)))
    refused(await form.ask(ask_of(form, alice)))
    await form.pass_seconds(86_400)
    granted(await form.ask(ask_of(form, alice)))
    late.settle(0, 10)
    await form.settled()
    assert [(b.spent, b.reserved) for b in (await reading(form, alice)).budgets] == [(0, 10), (10, 10)]


async def test_budgets_start_from_the_ledger(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(30), tokens(500)))
    form.spending.spent["alice"] = Spent(tokens=200, cost_nanousd=25)
    await form.limiter.prepare([alice])
    assert [(b.spent, b.left) for b in (await reading(form, alice)).budgets] == [(25, 5), (200, 300)]
    refused(await form.ask(ask_of(form, alice)))
    granted(await form.ask(ask_of(form, alice, cost=5)))


async def test_a_change_forgets_nothing_that_the_ledger_does_not_have_yet(form: MemoryForm) -> None:
    before, after = holder(budgets=(usd(30),)), holder(rpm=100, budgets=(usd(40),))
    await form.limiter.prepare([before])
    granted(await form.ask(ask_of(form, before))).settle(0, 10)
    await form.settled()
    await form.limiter.prepare([after])  # the record of that call waits in the spool
    assert [b.spent for b in (await reading(form, after)).budgets] == [10]


async def test_a_budget_that_was_away_starts_from_the_ledger_again(form: MemoryForm) -> None:
    alice, free = holder(budgets=(usd(30),)), holder()
    await form.limiter.prepare([alice])
    granted(await form.ask(ask_of(form, alice))).settle(0, 10)
    under_way = granted(await form.ask(ask_of(form, alice, cost=4)))
    await form.settled()
    await form.limiter.prepare([free])
    form.spending.spent["alice"] = Spent(0, 20)  # nobody has counted since
    await form.limiter.prepare([alice])
    assert [(b.spent, b.reserved) for b in (await reading(form, alice)).budgets] == [(20, 4)]
    under_way.settle(0, 3)
    await form.settled()
    assert [(b.spent, b.reserved) for b in (await reading(form, alice)).budgets] == [(23, 0)]


async def test_books_correct_what_was_spent(form: MemoryForm) -> None:
    alice = holder(budgets=(usd(30), tokens(500)))
    await form.limiter.prepare([alice])
    begun = form.us
    granted(await form.ask(ask_of(form, alice))).settle(100, 10)
    await form.settled()
    form.limiter.correct(Amendment("req_1", [alice], begun, -40, 7))
    await form.settled()
    assert [b.spent for b in (await reading(form, alice)).budgets] == [17, 60]
    await form.pass_seconds(86_400)
    form.limiter.correct(Amendment("req_2", [alice], begun, 5, 5))  # of yesterday's
    await form.settled()
    assert [b.spent for b in (await reading(form, alice)).budgets] == [0, 0]


async def test_a_lowered_budget_refuses_and_a_raised_one_admits_at_once(form: MemoryForm) -> None:
    many, few, more = (holder(budgets=(usd(amount),)) for amount in (50, 15, 100))
    await form.limiter.prepare([many])
    for _ in range(2):
        granted(await form.ask(ask_of(form, many)))
    refused(await form.ask(ask_of(form, few)))
    assert [b.left for b in (await reading(form, few)).budgets] == [0]
    granted(await form.ask(ask_of(form, more)))


async def test_a_budget_that_is_new_counts_calls_under_way_when_they_end(form: MemoryForm) -> None:
    before = holder(budgets=(usd(50),))
    await form.limiter.prepare([before])
    under_way = granted(await form.ask(ask_of(form, before)))
    after = holder(budgets=(usd(50), tokens(500)))
    await form.limiter.prepare([after])
    under_way.settle(100, 10)
    await form.settled()
    assert [(b.spent, b.reserved) for b in (await reading(form, after)).budgets] == [(10, 0), (100, 0)]


# -- groups ----------------------------------------------------------------------------------------------------


async def test_a_group_holds_besides_and_its_refusal_takes_nothing_of_the_client(form: MemoryForm) -> None:
    alice = holder("client:alice", rpm=10, budgets=(usd(1000),))
    bob = holder("client:bob", concurrency=5)
    team = holder("group:team", "alice", "bob", concurrency=2, budgets=(usd(20),))
    await form.limiter.prepare([alice, bob, team])
    granted(await form.ask(ask_of(form, alice, team)))
    granted(await form.ask(ask_of(form, bob, team)))
    no = refused(await form.ask(ask_of(form, alice, team)))
    assert (no.limit, no.holder) == (Limit.BUDGET, team)
    assert (await reading(form, alice)).rates[0].remaining == 9
    assert (await reading(form, team)).concurrency == 2


async def test_a_group_counts_what_its_present_members_have_spent(form: MemoryForm) -> None:
    form.spending.spent.update(alice=Spent(0, 5), bob=Spent(0, 7))
    one, two = (holder("group:team", *members, budgets=(usd(20),)) for members in (("alice",), ("alice", "bob")))
    await form.limiter.prepare([one])
    assert [b.spent for b in (await reading(form, one)).budgets] == [5]
    held = granted(await form.ask(ask_of(form, one, cost=4)))
    await form.limiter.prepare([two])
    assert [(b.spent, b.reserved) for b in (await reading(form, two)).budgets] == [(12, 4)]
    held.settle(0, 3)
    await form.settled()
    assert [(b.spent, b.reserved) for b in (await reading(form, two)).budgets] == [(15, 0)]


# -- everything at once ----------------------------------------------------------------------------------------


async def test_a_thousand_calls_of_all_kinds_leave_nothing_behind(form: MemoryForm) -> None:
    """Checked at every step: reserved + spent <= budget, slots <= concurrency."""
    alice = holder(concurrency=20, budgets=(usd(2_000), tokens(30_000, Period.MONTH)))
    team = holder("group:team", "alice", "bob", concurrency=30, budgets=(tokens(50_000, Period.TOTAL),))
    await form.limiter.prepare([alice, team])
    chance = random.Random(7)
    open_: list[tuple[Grant, int, int]] = []
    spent = 0
    for _ in range(1000):
        ask = ask_of(form, alice, team, tokens=chance.randint(0, 400), cost=chance.randint(0, 30))
        answer = await form.ask(ask)
        if not isinstance(answer, LimitRefusal | Exception):
            open_.append((answer, ask.tokens, ask.cost_nanousd))
        while open_ and chance.random() < 0.5:
            grant, most_tokens, most_cost = open_.pop(chance.randrange(len(open_)))
            if chance.random() < 0.2:
                grant.give_back()
            else:
                cost = chance.randint(0, most_cost)
                spent += cost
                grant.settle(chance.randint(0, most_tokens), cost)
        await form.settled()
        for who in (alice, team):
            now = await reading(form, who)
            assert now.concurrency == len(open_) <= (who.limits.concurrency or 0)
            assert all(0 <= b.spent + b.reserved <= b.budget.amount and b.reserved >= 0 for b in now.budgets)
    for grant, _, _ in open_:
        grant.settle(0, 0)
    await form.settled()
    now = await reading(form, alice)
    assert (now.concurrency, [b.reserved for b in now.budgets]) == (0, [0, 0])
    assert now.budgets[0].spent == spent <= 2_000


async def test_absurd_amounts_take_what_there_is_and_come_back(form: MemoryForm) -> None:
    """A call may ask for as many tokens as JSON can write, and an upstream may tell of as many."""
    alice = holder(concurrency=2, budgets=(usd(100), tokens(100)))
    await form.limiter.prepare([alice])
    grant = granted(await form.ask(ask_of(form, alice, tokens=2**60, cost=2**80, last_call=True)))
    now = await reading(form, alice)
    assert (now.concurrency, [budget.reserved for budget in now.budgets]) == (1, [100, 100])
    grant.settle(2**60, 2**80)
    await form.settled()
    form.limiter.correct(Amendment("req_1", [alice], form.us, 2**60, 2**80))
    await form.settled()
    now = await reading(form, alice)
    assert (now.concurrency, [budget.reserved for budget in now.budgets]) == (0, [0, 0])
    assert all(budget.spent >= 2**50 for budget in now.budgets)
    assert refused(await form.ask(ask_of(form, alice, last_call=True))).limit is Limit.BUDGET
