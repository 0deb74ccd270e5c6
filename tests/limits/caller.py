"""A process that makes calls of one limited client, and prints a line of JSON for what each thing came to.

python -m tests.limits.caller URL BOOKS TERMS, where TERMS is JSON: limits, lease, and what to do:
    {"do": "burst", "calls": 250}       so many at once, none of which ends: prints how many were let in
    {"do": "rate", "seconds": 60}       asks on and on for so long: prints how many were let in
    {"do": "load", "at_once": 8}        calls again and again until a budget says no; prints `over`
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from app.domain.errors import ApiError
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period
from app.gateway.limiter import Grant, Holder, Limit, LimitRefusal, LimitRequest
from app.limits.redis.limiter import RedisLimiter
from tests.limits.books import Books

COST = 10


def alice(terms: dict[str, Any]) -> Holder:
    budgets = (Budget(Unit.USD, Period.TOTAL, terms["budget"]),) if "budget" in terms else ()
    return Holder("client:alice", Limits(terms.get("rpm"), None, terms.get("concurrency"), budgets), ("alice",))


def wall_us() -> int:
    return time.time_ns() // 1000


class Caller:
    def __init__(self, limiter: RedisLimiter, books: Books, holder: Holder) -> None:
        self._limiter = limiter
        self._books = books
        self._holder = holder
        self._chance = random.Random()
        self.let_in = self.unjudged = 0

    async def ask(self) -> Grant | LimitRefusal | ApiError:
        answered: asyncio.Future[Grant | LimitRefusal | ApiError] = asyncio.get_running_loop().create_future()
        self._limiter.reserve(LimitRequest("req", (self._holder,), wall_us(), COST, COST, False), answered.set_result)
        return await answered

    async def burst(self, calls: int) -> int:
        answers = await asyncio.gather(*(self.ask() for _ in range(calls)))
        return sum(not isinstance(answer, LimitRefusal | ApiError) for answer in answers)

    async def rate(self, seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = await self.ask()
            if isinstance(answer, LimitRefusal | ApiError):
                await asyncio.sleep(0.002)
            else:
                self.let_in += 1
                answer.settle(1, 1)
        return self.let_in

    async def load(self) -> None:
        """Calls of random length and cost, one after the other, until the budget is spent."""
        while True:
            answer = await self.ask()
            if isinstance(answer, LimitRefusal):
                if answer.limit is Limit.BUDGET and answer.budget is not None and not answer.budget.reserved:
                    return
                await asyncio.sleep(0.005)
            elif isinstance(answer, ApiError):
                self.unjudged += 1
                await asyncio.sleep(0.02)
            else:
                self.let_in += 1
                await asyncio.sleep(self._chance.random() * 0.05)
                if self._chance.random() < 0.1:
                    answer.give_back()
                else:
                    cost = self._chance.randint(1, COST)
                    answer.settle(cost, cost)
                    self._books.write(cost)


def tell(**what: Any) -> None:  # noqa: ANN401 - JSON
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(url: str, books: Books, terms: dict[str, Any]) -> None:
    holder = alice(terms)
    async with RedisLimiter(url, books, wall_us, lease_seconds=terms.get("lease", 10)) as limiter:
        caller = Caller(limiter, books, holder)
        await limiter.prepare([holder])
        tell(ready=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        if terms["do"] == "load":
            await asyncio.gather(*(caller.load() for _ in range(terms["at_once"])))
            tell(over=True, let_in=caller.let_in, unjudged=caller.unjudged, errors=dict(limiter.errors))
            return
        if terms["do"] == "rate":
            tell(let_in=await caller.rate(terms["seconds"]))
            return
        tell(let_in=await caller.burst(terms["calls"]))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Books(Path(sys.argv[2])), json.loads(sys.argv[3])))
