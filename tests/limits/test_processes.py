"""Several processes on one Redis: limits hold for all of them together, and what a dead one held comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.gateway.limiter import Holder, HolderReading
from app.limits.redis.limiter import RedisLimiter
from tests.limits.books import Books
from tests.limits.caller import COST, alice, wall_us
from tests.limits.conftest import StartCallers
from tests.store.valkey_server import ValkeyServer

LEASE_SECONDS = 1.5


@asynccontextmanager
async def watcher(url: str, books: Path) -> AsyncIterator[RedisLimiter]:
    async with RedisLimiter(url, Books(books), wall_us) as limiter:
        yield limiter


async def until(limiter: RedisLimiter, holder: Holder, **wanted: int) -> HolderReading:
    """Wait until a holder stands like this."""
    async with asyncio.timeout(20):
        while True:
            now = await limiter.reading(holder, wall_us())
            budget = now.budgets[0]
            if {"slots": now.concurrency, "spent": budget.spent, "reserved": budget.reserved} == wanted:
                return now
            await asyncio.sleep(0.05)


def test_five_hundred_at_once_over_two_processes_on_a_budget_for_five(
    callers: StartCallers, valkey: ValkeyServer, redis_database: int
) -> None:
    started = callers(2, valkey.url(redis_database), do="burst", calls=250, budget=5 * COST)
    assert sum(one.said()["let_in"] for one in [one.go() for one in started]) == 5


async def test_reserved_and_spent_never_exceed_a_budget_under_load(
    callers: StartCallers, valkey: ValkeyServer, redis_database: int, tmp_path: Path
) -> None:
    terms = {"budget": 2000, "concurrency": 12}
    url, holder, books = valkey.url(redis_database), alice(terms), tmp_path / "books"
    started = callers(2, url, do="load", at_once=8, **terms)
    async with watcher(url, books) as limiter:
        loop = asyncio.get_running_loop()
        ends = [loop.run_in_executor(None, one.go().said) for one in started]
        looks = 0
        while not all(end.done() for end in ends):
            now = await limiter.reading(holder, wall_us())
            assert 0 <= now.concurrency <= 12
            budget = now.budgets[0]
            assert min(budget.spent, budget.reserved) >= 0
            assert budget.spent + budget.reserved <= 2000
            looks += 1
            await asyncio.sleep(0)
        assert looks > 20
        spent = Books(books).total()
        assert 2000 - COST < spent <= 2000
        await until(limiter, holder, slots=0, spent=spent, reserved=0)
    assert all([(await end)["over"] for end in ends])


async def test_what_a_killed_process_held_comes_back_when_its_lease_ends(
    callers: StartCallers, valkey: ValkeyServer, redis_database: int, tmp_path: Path
) -> None:
    """Its slots are free; its calls count as spent, as their open rows in the ledger do."""
    terms = {"budget": 1000, "concurrency": 3}
    url, holder = valkey.url(redis_database), alice(terms)
    (dying, other) = callers(2, url, do="burst", calls=3, lease=LEASE_SECONDS, **terms)
    assert dying.go().said() == {"let_in": 3}
    async with watcher(url, tmp_path / "books") as limiter:
        await until(limiter, holder, slots=3, spent=0, reserved=30)
        dying.kill()
        await until(limiter, holder, slots=0, spent=30, reserved=0)
        assert other.go().said() == {"let_in": 3}
        await until(limiter, holder, slots=3, spent=30, reserved=30)
        await asyncio.sleep(2 * LEASE_SECONDS)  # who lives keeps what he has
        await until(limiter, holder, slots=3, spent=30, reserved=30)


@pytest.mark.long
def test_a_minute_has_what_the_rate_says_over_two_processes(
    callers: StartCallers, valkey: ValkeyServer, redis_database: int
) -> None:
    """In real time."""
    started = callers(2, valkey.url(redis_database), do="rate", seconds=59.5, rpm=3000)
    assert 0.99 * 3000 <= sum(one.said()["let_in"] for one in [one.go() for one in started]) <= 3000


async def test_the_server_is_killed_and_comes_back_empty_under_load(
    callers: StartCallers, own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """The budget is spent to the end, and no further; what is lost of it is what ended while the ledger was read."""
    terms = {"budget": 20_000, "concurrency": 40}
    url, books = own_valkey.url(), Books(tmp_path / "books")
    started = callers(2, url, do="load", at_once=20, **terms)
    loop = asyncio.get_running_loop()
    ends = [loop.run_in_executor(None, one.go().said) for one in started]
    await spent_more_than(books, 3000)
    own_valkey.kill()
    await asyncio.sleep(0.3)
    own_valkey.start()
    told = [await end for end in ends]
    assert all(one["over"] and one["unjudged"] for one in told)
    assert 20_000 - 60 * COST <= books.total() <= 20_000


async def spent_more_than(books: Books, amount: int) -> None:
    async with asyncio.timeout(20):
        while books.total() <= amount:  # noqa: ASYNC110 - other processes write them
            await asyncio.sleep(0.02)
