"""Laws of the scripts, whatever happens in whatever order: several processes, deaths, days that begin."""

import asyncio
from contextlib import AsyncExitStack

from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period
from app.gateway.limiter import Grant, Holder, HolderReading, LimitRequest
from app.limits.redis.limiter import RedisLimiter
from app.limits.redis.scripts import Scripts
from tests.contract.limiter_forms import CLOCK_BY_HAND, NOW_US, SaidSpending
from tests.store.valkey_server import ValkeyServer

DAY = Budget(Unit.USD, Period.DAY, 100)
TOTAL = Budget(Unit.TOKENS, Period.TOTAL, 1000)
ALICE = Holder("client:alice", Limits(concurrency=6, budgets=(DAY, TOTAL)), ("alice",))
TEAM = Holder("group:team", Limits(tpm=900, budgets=(Budget(Unit.USD, Period.MONTH, 150),)), ("alice", "bob"))

Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve"] * 5 + ["settle"] * 4 + ["back", "forget", "again", "day"]),
        st.integers(0, 1),  # the process
        st.integers(0, 60),  # an amount, or which call
        st.integers(0, 60),
    ),
    max_size=40,
)


class Bench:
    """Two processes that share limits, and what must be true of these."""

    def __init__(self, server: ValkeyServer, database: int, *, last_call: bool = False) -> None:
        self.server, self.database = server, database
        self.last_call = last_call
        self.us = NOW_US
        self.open: list[tuple[Grant, LimitRequest]] = []
        self.tokens = 0
        self.limiters: list[RedisLimiter] = []

    async def begin(self, stack: AsyncExitStack) -> None:
        self.command("FLUSHDB")
        self.server.settle_in(self.database)
        self.set_clock()
        for _ in range(2):
            limiter = RedisLimiter(
                self.server.url(self.database), SaidSpending(), lambda: self.us, scripts=Scripts(CLOCK_BY_HAND)
            )
            self.limiters.append(await stack.enter_async_context(limiter))
            await limiter.prepare([ALICE, TEAM])

    def command(self, *words: str) -> None:
        self.server.command(*words, database=self.database)

    def set_clock(self) -> None:
        self.command("SET", "now_ms", str(self.us // 1000))

    async def step(self, what: str, which: int, amount: int, other: int) -> None:
        limiter = self.limiters[which]
        if what == "reserve":
            await self.reserve(limiter, amount, other)
        elif what in ("settle", "back") and self.open:
            grant, ask = self.open.pop(amount % len(self.open))
            if what == "back":
                grant.give_back()
            else:
                tokens = min(other, ask.tokens)
                grant.settle(tokens, min(other, ask.cost_nanousd))
                self.tokens += tokens
            grant.settle(999, 999)  # whoever ends it twice
        elif what == "forget":  # its lease has ended, and it does not know that yet
            self.command("DEL", f"weighbridge:p:{limiter.member.name}")
        elif what == "again":
            await rejoined(limiter)
        elif what == "day":
            self.us += 86_400_000_000
            self.set_clock()
        for one in self.limiters:
            await one.settled()

    async def reserve(self, limiter: RedisLimiter, tokens: int, cost: int) -> None:
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        ask = LimitRequest("req", (ALICE, TEAM), self.us, tokens, cost, self.last_call)
        limiter.reserve(ask, answered.set_result)
        answer = await answered
        if hasattr(answer, "settle"):
            self.open.append((answer, ask))  # type: ignore[arg-type] # a Grant, as mypy cannot see

    async def look(self) -> None:
        for holder in (ALICE, TEAM):
            now = await self.reading(holder)
            assert now.concurrency >= 0
            assert all(rate.remaining >= 0 for rate in now.rates)
            for budget in now.budgets:
                assert budget.spent >= 0, now
                assert budget.reserved >= 0, now
                if not self.last_call:  # such a one may come to more than was left
                    assert budget.spent + budget.reserved <= budget.budget.amount, now

    async def reading(self, holder: Holder) -> HolderReading:
        for limiter in self.limiters:
            if limiter.member.connection is None:
                await rejoined(limiter)
        return await self.limiters[0].reading(holder, self.us)


async def rejoined(limiter: RedisLimiter) -> None:
    """The next round, now."""
    member = limiter.member
    member.wake()
    async with asyncio.timeout(5):
        while not await member.joined():  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.001)


@given(steps=STEPS, last_call=st.booleans())
def test_whatever_happens_no_budget_is_overrun_and_in_the_end_it_is_what_calls_came_to(
    valkey: ValkeyServer, steps: list[Step], last_call: bool
) -> None:
    async def run() -> None:
        bench = Bench(valkey, 511, last_call=last_call)
        async with AsyncExitStack() as stack:
            await bench.begin(stack)
            for step in steps:
                await bench.step(*step)
                await bench.look()
            for limiter in bench.limiters:
                await rejoined(limiter)
            while bench.open:
                await bench.step("settle", 0, 0, 0)
            now = await bench.reading(ALICE)
            assert now.concurrency == 0
            assert [budget.reserved for budget in now.budgets] == [0, 0]
            assert now.budgets[1].spent == bench.tokens
            assert [budget.reserved for budget in (await bench.reading(TEAM)).budgets] == [0]

    asyncio.run(run())


async def test_no_minute_has_more_than_the_rate_and_each_has_99_percent_of_it_over_two_processes(
    valkey: ValkeyServer, redis_database: int
) -> None:
    rate = 600
    holder = Holder("client:alice", Limits(rpm=rate), ("alice",))
    bench = Bench(valkey, redis_database)
    let_in: list[int] = []
    async with AsyncExitStack() as stack:
        await bench.begin(stack)
        for _ in range(1300):  # 130 s; both ask for more than the rate all the time
            bench.us += 100_000
            bench.set_clock()
            for limiter in bench.limiters:
                let_in += [bench.us for _ in range(2) if await granted(limiter, holder, bench.us)]
    for moment in range(NOW_US, bench.us - 60_500_000, 500_000):
        assert sum(moment < at <= moment + 60_000_000 for at in let_in) <= rate
        assert sum(moment < at <= moment + 60_500_000 for at in let_in) >= 0.99 * rate  # a part and a step more


async def granted(limiter: RedisLimiter, holder: Holder, us: int) -> bool:
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    limiter.reserve(LimitRequest("req", (holder,), us, 1, 1, False), answered.set_result)
    return hasattr(await answered, "settle")
