"""Chooses the limiter: shared with other processes through Redis, or of this process alone."""

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from app.domain.records import book_of
from app.gateway.admission.spending import LedgerSpending
from app.gateway.clock import Clock
from app.limits.faults import LimiterUnusable
from app.limits.memory.limiter import MemoryLimiter
from app.limits.opening import redis_limiter
from app.settings import Settings
from app.store.faults import StoreFault
from app.store.store import Store

if TYPE_CHECKING:
    from app.limits.redis.limiter import RedisLimiter


async def redis_limits(settings: Settings, store: Store, clock: Clock, stack: AsyncExitStack) -> "RedisLimiter | None":
    """The shared limiter, if there is a Redis URL; closed with the stack. Raises StoreFault."""
    url = settings.storage.redis_url
    if url is None:
        return None
    fail_open = settings.limits.rates_without_redis == "open"
    spending = LedgerSpending(store.reports, book=book_of(settings.upstream.name))
    try:
        limiter = redis_limiter(url.reveal(), spending, clock.wall_us, fail_open=fail_open)
    except LimiterUnusable as error:
        raise StoreFault(str(error)) from None
    return await stack.enter_async_context(limiter)


def memory_limits(settings: Settings, store: Store, clock: Clock) -> MemoryLimiter:
    """The limiter of this process alone."""
    spending = LedgerSpending(store.reports, store.ledger.caught_up, book=book_of(settings.upstream.name))
    return MemoryLimiter(spending, time.monotonic_ns, clock.wall_us)
