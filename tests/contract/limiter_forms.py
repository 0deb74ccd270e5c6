"""The forms of the Limiter that pass its contract suite. A form that shares state is a second class and parameter."""

import asyncio
from collections.abc import Sequence

from app.domain.errors import ApiError
from app.gateway.limiter import MemoryLimiter
from app.gateway.limits import Ask, Grant, Limiter, Refusal
from app.gateway.spending import Spending, Spent

NOW_US = 1_790_000_000_000_000
Answer = Grant | Refusal | ApiError


class SaidSpending(Spending):
    """A ledger of which a test says what clients have spent."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}

    async def since(self, begins_at: int, clients: Sequence[str]) -> Spent:
        found = [self.spent.get(client, Spent()) for client in clients]
        return Spent(sum(spent.tokens for spent in found), sum(spent.cost_nanousd for spent in found))


class MemoryForm:
    """In this process; time is driven by hand."""

    def __init__(self) -> None:
        self.us = NOW_US
        self.spending = SaidSpending()
        self.limiter: Limiter = MemoryLimiter(self.spending, lambda: self.us * 1000, lambda: self.us)

    async def pass_seconds(self, seconds: float) -> None:
        """Let time pass, for rates and for windows."""
        self.us += round(seconds * 1_000_000)

    async def ask(self, ask: Ask) -> Answer:
        """The limiter's answer, at once or later."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.limiter.reserve(ask, answered.set_result)
        return await answered

    async def settled(self) -> None:
        """Wait until what settle() was told has arrived."""
