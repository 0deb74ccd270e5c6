"""The forms of the Limiter that pass its contract suite: in this process, and on a Valkey of the tests' own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.domain.errors import ApiError
from app.gateway.admission.spending import LedgerSpending, Spent
from app.gateway.limiter import Grant, Limiter, LimitRefusal, LimitRequest
from app.limits.memory.limiter import MemoryLimiter
from app.limits.redis.limiter import RedisLimiter
from app.limits.redis.scripts import Scripts
from tests.store.valkey_server import ValkeyServer

NOW_US = 1_790_000_000_000_000
CLOCK_BY_HAND = "local function now_ms() return tonumber(redis.call('GET', 'now_ms')) end"
Answer = Grant | LimitRefusal | ApiError


class SaidSpending(LedgerSpending):
    """A ledger of which a test says what clients have spent."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        self.broken = False
        self.seconds = 0.0  # that it takes to read it

    async def since(self, begins_at: int, clients: Sequence[str]) -> Spent:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.broken:
            raise OSError("the ledger is away")
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

    async def ask(self, ask: LimitRequest) -> Answer:
        """The limiter's answer, at once or later."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.limiter.reserve(ask, answered.set_result)
        return await answered

    async def settled(self) -> None:
        """Wait until what settle() was told has arrived."""


class RedisForm(MemoryForm):
    """On a server whose clock is driven by hand, too."""

    def __init__(self, server: ValkeyServer, database: int) -> None:
        super().__init__()
        self._server = server
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, server: ValkeyServer, database: int) -> AsyncIterator[MemoryForm]:
        form = cls(server, database)
        await form.pass_seconds(0)
        url = server.url(database)
        async with RedisLimiter(url, form.spending, lambda: form.us, scripts=Scripts(CLOCK_BY_HAND)) as limiter:
            assert limiter.problem is None
            form.limiter = limiter
            yield form

    async def pass_seconds(self, seconds: float) -> None:
        await super().pass_seconds(seconds)
        self._server.command("SET", "now_ms", str(self.us // 1000), database=self._database)

    async def settled(self) -> None:
        """Replies come in order."""
        assert isinstance(self.limiter, RedisLimiter)
        await self.limiter.settled()
