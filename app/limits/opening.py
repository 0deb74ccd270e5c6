"""Opens the limiter that several processes share. The Redis code is imported only if there is a URL."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.gateway.admission.spending import LedgerSpending
from app.limits.faults import LimiterUnusable

if TYPE_CHECKING:
    from app.limits.redis.limiter import RedisLimiter


def redis_limiter(url: str, spending: LedgerSpending, now_us: Callable[[], int], *, fail_open: bool) -> "RedisLimiter":
    """The shared limiter. With `fail_open`, rates do not hold while Redis is away. Raises LimiterUnusable."""
    try:
        import hiredis  # noqa: F401
    except ImportError as error:
        raise LimiterUnusable(
            "a Redis URL is set, but the parser for it is not installed: pip install hiredis"
        ) from error
    from app.limits.redis.limiter import RedisLimiter

    return RedisLimiter(url, spending, now_us, fail_open=fail_open)


def redis_fault(url: str) -> str | None:
    """Why a Redis server does not answer; None if it does."""
    try:
        import hiredis
    except ImportError:
        return "the parser for it is not installed: pip install hiredis"
    from app.limits.redis.address import RedisAddress
    from app.limits.redis.connection import RedisConnectionLost, connect

    async def asked(address: RedisAddress) -> None:
        connection = await connect(address, lambda _: None)
        await connection.ask("PING")
        connection.drop("done")

    try:
        address = RedisAddress(url)
        asyncio.run(asked(address))
    except (LimiterUnusable, OSError, TimeoutError, RedisConnectionLost, hiredis.ReplyError) as error:
        return str(error) or "it does not answer in time"
    return None
