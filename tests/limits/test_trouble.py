"""Redis away, silent, empty, full: who is let in, what it costs to find out, and what is put right afterwards."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.domain.errors import ApiError, StorageUnavailable
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period
from app.gateway.admission.spending import Spent
from app.gateway.limiter import Amendment, Grant, Holder, LimitRefusal, LimitRequest
from app.limits.redis.connection import TIMEOUT_SECONDS
from app.limits.redis.grant import Command
from app.limits.redis.limiter import RedisLimiter
from app.limits.redis.replies import UNKNOWN
from app.limits.redis.scripts import Scripts
from app.limits.redis.wire_format import WireFormat, ask_json
from tests.contract.limiter_forms import Answer, SaidSpending
from tests.limits.caller import wall_us
from tests.store.relay import Relay
from tests.store.valkey_server import ValkeyServer

RATED = Holder("client:rated", Limits(rpm=100, concurrency=50), ("rated",))
BUDGETED = Holder("client:alice", Limits(concurrency=50, budgets=(Budget(Unit.USD, Period.DAY, 100),)), ("alice",))


class Shared:
    """A limiter, and the way from it to its server."""

    def __init__(self, limiter: RedisLimiter, spending: SaidSpending, relay: Relay) -> None:
        self.limiter = limiter
        self.spending = spending
        self.relay = relay

    async def ask(self, *holders: Holder, cost: int = 10) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.limiter.reserve(LimitRequest("req", holders, wall_us(), cost, cost, False), answered.set_result)
        return await answered

    async def granted(self, *holders: Holder, cost: int = 10) -> Grant:
        answer = await self.ask(*holders, cost=cost)
        assert not isinstance(answer, LimitRefusal | ApiError), answer
        return answer

    def asked_at_once(self, *holders: Holder) -> list[Answer]:
        """The answer, if it is there when reserve() returns."""
        found: list[Answer] = []
        self.limiter.reserve(LimitRequest("req", holders, wall_us(), 1, 1, False), found.append)
        return found

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not true():  # noqa: ASYNC110 - whatever it looks at
                await asyncio.sleep(0.01)

    async def stands(self, holder: Holder, *, slots: int, reserved: int, spent: int) -> None:
        """Wait until it stands like this, and see that it stays so for a moment."""
        seen = 0
        async with asyncio.timeout(15):
            while seen < 5:
                now = await self.limiter.reading(holder, wall_us())
                budget = now.budgets[0]
                seen = seen + 1 if (now.concurrency, budget.reserved, budget.spent) == (slots, reserved, spent) else 0
                await asyncio.sleep(0.02)

    async def stands_again(self) -> None:
        """Wait until the account is open, after everything was lost."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(StorageUnavailable):
                    await self.limiter.reading(BUDGETED, wall_us())
                    return
                await asyncio.sleep(0.02)

    async def back(self) -> None:
        await self.until(lambda: self.limiter.problem is None)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """The server cannot be reached in this block, which begins when that is noticed, and is back after it."""
        self.relay.cut()
        await self.until(lambda: self.limiter.problem is not None)
        yield
        self.relay.mend()
        await self.back()


@asynccontextmanager
async def shared(server: ValkeyServer, database: int, **options: Any) -> AsyncIterator[Shared]:  # noqa: ANN401
    spending = SaidSpending()
    with Relay(server.port) as relay:
        async with RedisLimiter(server.url(database, relay.port), spending, wall_us, **options) as limiter:
            await limiter.prepare([BUDGETED])
            yield Shared(limiter, spending, relay)


@pytest.mark.parametrize("fail_open", [True, False])
async def test_away_rates_are_open_or_shut_and_budgets_are_shut(
    valkey: ValkeyServer, redis_database: int, fail_open: bool
) -> None:
    async with shared(valkey, redis_database, fail_open=fail_open) as one:
        async with one.away():
            (answer,) = one.asked_at_once(RATED)
            assert isinstance(answer, StorageUnavailable) is not fail_open
            (answer,) = one.asked_at_once(BUDGETED)
            assert isinstance(answer, StorageUnavailable)
            (answer,) = one.asked_at_once(RATED, BUDGETED)
            assert isinstance(answer, StorageUnavailable)
            (answer,) = one.asked_at_once()
            assert not isinstance(answer, LimitRefusal | StorageUnavailable)  # no limits: never asked
            assert one.limiter.unjudged == {"admitted": int(fail_open), "refused": 3 - int(fail_open)}
            assert sum(one.limiter.errors.values()) > 0
        assert not isinstance(await one.ask(BUDGETED), LimitRefusal | StorageUnavailable)


async def test_silent_calls_wait_for_one_timeout_and_later_ones_not_at_all(
    valkey: ValkeyServer, redis_database: int
) -> None:
    async with shared(valkey, redis_database) as one:
        one.relay.freeze()
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(one.ask(BUDGETED) for _ in range(20)))
        assert asyncio.get_running_loop().time() - began < TIMEOUT_SECONDS + 2  # all together, on a busy machine
        assert all(isinstance(answer, StorageUnavailable) for answer in answers)
        for _ in range(1000):
            assert len(one.asked_at_once(BUDGETED)) == 1
        assert one.limiter.errors["timeout"] >= 1
        assert "Redis" in (one.limiter.problem or "")


async def test_what_was_asked_before_a_silence_and_done_after_it_is_given_back(
    valkey: ValkeyServer, redis_database: int
) -> None:
    """The server reads it when all have given up; nobody may be left holding anything."""
    async with shared(valkey, redis_database) as one:
        held = await one.granted(BUDGETED)
        valkey.stop()
        try:
            answers = await asyncio.gather(*(one.ask(BUDGETED) for _ in range(5)))
        finally:
            valkey.go_on()
        assert all(isinstance(answer, StorageUnavailable) for answer in answers)
        await one.back()
        await one.stands(BUDGETED, slots=1, reserved=10, spent=0)
        held.settle(7, 7)
        await one.stands(BUDGETED, slots=0, reserved=0, spent=7)


async def test_a_connection_given_up_reserves_nothing_however_late_it_is_read(
    valkey: ValkeyServer, redis_database: int
) -> None:
    async with shared(valkey, redis_database) as one:
        member = one.limiter.member
        holders = WireFormat().holder(BUDGETED, wall_us())
        late = ask_json(
            member.name, member.connection_number, 999, LimitRequest("req", (BUDGETED,), 0, 10, 10, False), holders
        )
        async with one.away():
            pass
        sha = Scripts().reserve.sha.decode()
        assert valkey.command("EVALSHA", sha, "0", late.decode(), database=redis_database) == [UNKNOWN]
        await one.stands(BUDGETED, slots=0, reserved=0, spent=0)


async def test_what_ends_while_redis_is_away_is_told_once_it_is_back(valkey: ValkeyServer, redis_database: int) -> None:
    async with shared(valkey, redis_database) as one:
        grants = [await one.granted(BUDGETED) for _ in range(6)]
        async with one.away():
            for number, grant in enumerate(grants[:5]):
                if number % 2:
                    grant.give_back()
                else:
                    grant.settle(4, 4)
                grant.settle(50, 50)
            one.limiter.correct(Amendment("req_1", [BUDGETED], wall_us(), 0, 3))
        await one.stands(BUDGETED, slots=1, reserved=10, spent=15)


async def test_what_books_say_of_a_call_counts_once_however_many_processes_ask_them(
    valkey: ValkeyServer, redis_database: int
) -> None:
    async with shared(valkey, redis_database) as one, shared(valkey, redis_database) as two:
        grant = await one.granted(BUDGETED)
        grant.settle(9, 9)
        for each in (one, two):
            each.limiter.correct(Amendment("req_1", [BUDGETED], wall_us(), 0, -4))
            await each.limiter.settled()
        await one.stands(BUDGETED, slots=0, reserved=0, spent=5)


@pytest.mark.parametrize(
    "how", ["told first", "ended first", "dead, told first", "dead, ended first", "dead, then back"]
)
async def test_books_of_a_call_that_was_given_up_count_once_with_what_its_process_says(
    valkey: ValkeyServer, redis_database: int, how: str
) -> None:
    """It was cut off from the database, or Redis, too: others closed its call with all of its worst case, and asked.

    That its end took this back as well left the budget lower than what was spent.
    """
    async with shared(valkey, redis_database, lease_seconds=1.0) as cut, shared(valkey, redis_database) as other:
        grant = await cut.granted(BUDGETED, cost=60)

        async def told() -> None:
            other.limiter.correct(Amendment("req", [BUDGETED], wall_us(), -51, -51, given_up=True))
            await other.limiter.settled()

        if how == "told first":
            await told()
        if how.startswith("dead"):
            async with cut.away():
                await other.stands(BUDGETED, slots=0, reserved=0, spent=60)
                if how != "dead, ended first":
                    await told()
                    await other.stands(BUDGETED, slots=0, reserved=0, spent=9)
                if how != "dead, then back":
                    grant.settle(9, 9)
        grant.settle(9, 9)
        await other.stands(BUDGETED, slots=0, reserved=0, spent=9)
        if how.endswith("ended first"):
            await told()
        await other.stands(BUDGETED, slots=0, reserved=0, spent=9)


async def test_what_a_script_breaks_at_is_not_told_for_ever(valkey: ValkeyServer, redis_database: int) -> None:
    """One such thing cost the process a connection every second, and everybody their limits with it."""
    async with shared(valkey, redis_database) as one:
        grant = await one.granted(BUDGETED)
        one.limiter.member.deliver(Command(Scripts().open.command(b"not JSON")))
        await one.until(lambda: one.limiter.errors["dropped"] == 1)
        await one.back()
        errors = dict(one.limiter.errors)
        grant.settle(4, 4)
        await one.stands(BUDGETED, slots=0, reserved=0, spent=4)
        assert one.limiter.errors == errors
        assert one.limiter.problem is None


async def test_emptied_under_way_budgets_are_shut_until_they_are_read_again_and_open_calls_hold_on(
    valkey: ValkeyServer, redis_database: int
) -> None:
    async with shared(valkey, redis_database) as one:
        done, open_ = await one.granted(BUDGETED), await one.granted(BUDGETED)
        done.settle(5, 5)
        await one.limiter.settled()
        one.spending.spent["alice"] = Spent(5, 5)
        valkey.command("FLUSHDB", database=redis_database)
        assert isinstance(await one.ask(BUDGETED), StorageUnavailable)
        await one.stands_again()
        await one.stands(BUDGETED, slots=1, reserved=10, spent=5)
        open_.settle(9, 9)
        await one.stands(BUDGETED, slots=0, reserved=0, spent=14)


async def test_who_comes_back_late_to_an_emptied_server_adds_what_the_ledger_could_not_say(
    valkey: ValkeyServer, redis_database: int
) -> None:
    """Calls that ended after another process had read the ledger; not those that ended before."""
    async with shared(valkey, redis_database) as late, shared(valkey, redis_database) as other:
        early, tardy, open_ = [await late.granted(BUDGETED) for _ in range(3)]
        async with late.away():
            valkey.command("FLUSHDB", database=redis_database)
            early.settle(6, 6)
            other.spending.spent["alice"] = Spent(6, 6)
            await asyncio.sleep(0.05)
            await other.stands_again()
            await other.stands(BUDGETED, slots=0, reserved=0, spent=6)
            tardy.settle(8, 8)
        await other.stands(BUDGETED, slots=1, reserved=10, spent=14)
        open_.settle(2, 2)
        await other.stands(BUDGETED, slots=0, reserved=0, spent=16)


async def test_a_server_that_comes_back_with_an_old_snapshot_is_not_believed() -> None:
    with ValkeyServer("--save", "3600 1") as server:
        server.settle_in()
        async with shared(server, 0) as one:
            (await one.granted(BUDGETED)).settle(5, 5)
            await one.limiter.settled()
            server.command("SAVE")
            for _ in range(9):
                (await one.granted(BUDGETED)).settle(10, 10)
            open_ = await one.granted(BUDGETED, cost=5)
            await one.stands(BUDGETED, slots=1, reserved=5, spent=95)
            one.spending.spent["alice"] = Spent(95, 95)
            server.kill()
            server.start()
            assert b"weighbridge:a:client:alice:usd:day" in server.command("KEYS", "*")
            await one.back()
            await one.stands_again()
            await one.stands(BUDGETED, slots=1, reserved=5, spent=95)
            open_.give_back()
            await one.stands(BUDGETED, slots=0, reserved=0, spent=95)


async def test_full_refuses_and_is_mended_without_a_restart(valkey: ValkeyServer, redis_database: int) -> None:
    async with shared(valkey, redis_database) as one:
        valkey.command("CONFIG", "SET", "maxmemory", "1")
        try:
            assert isinstance(await one.ask(BUDGETED), StorageUnavailable)
            await one.until(lambda: "maxmemory" in (one.limiter.problem or ""))
        finally:
            valkey.command("CONFIG", "SET", "maxmemory", "0")
        await one.back()
        assert not isinstance(await one.ask(BUDGETED), LimitRefusal | StorageUnavailable)


async def test_a_ledger_that_cannot_be_read_keeps_budgets_shut(
    valkey: ValkeyServer, redis_database: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with shared(valkey, redis_database) as one:
        fresh = Holder("client:bob", BUDGETED.limits, ("bob",))
        one.spending.broken = True
        await one.limiter.prepare([fresh])
        assert isinstance(await one.ask(fresh), StorageUnavailable)
        assert "could not be read" in caplog.text
        one.spending.broken = False
        async with asyncio.timeout(15):
            while isinstance(await one.ask(fresh), StorageUnavailable):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.02)


async def test_a_wrong_password_is_told_and_not_shown(valkey: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    url = valkey.url().replace(valkey.password, "canary-wrong")
    async with RedisLimiter(url, SaidSpending(), wall_us) as limiter:
        assert "WRONGPASS" in (limiter.problem or "")
        assert limiter.errors["error"] >= 1
    assert "canary" not in caplog.text + (limiter.problem or "")


async def test_a_server_that_is_no_redis_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It hangs up, as PostgreSQL does; that was "not connected yet" for good, and nothing in the log."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, RedisLimiter(f"redis://127.0.0.1:{port}", SaidSpending(), wall_us) as limiter:
        assert "does not answer as Redis does" in (limiter.problem or "")
        assert limiter.errors["closed"] >= 1
    assert "does not answer as Redis does" in caplog.text


async def test_two_processes_that_open_an_account_at_once_refuse_nobody(
    valkey: ValkeyServer, redis_database: int
) -> None:
    """As when one has made a client and the other has just heard of it: the first call got 503."""
    async with shared(valkey, redis_database) as one, shared(valkey, redis_database) as other:
        for number in range(5):
            fresh = Holder(f"client:new{number}", BUDGETED.limits, (f"new{number}",))
            answers = await asyncio.gather(one.ask(fresh), other.ask(fresh))
            assert not any(isinstance(answer, LimitRefusal | ApiError) for answer in answers)


async def test_who_cannot_read_the_ledger_keeps_nobody_else_from_it(
    valkey: ValkeyServer, redis_database: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with shared(valkey, redis_database) as one, shared(valkey, redis_database) as other:
        await one.granted(BUDGETED)
        one.spending.broken = True
        fresh = Holder("client:fresh", BUDGETED.limits, ("fresh",))

        async def insist() -> None:
            while True:
                await one.ask(fresh)
                await asyncio.sleep(0.001)

        insisting = asyncio.create_task(insist())
        async with asyncio.timeout(8):
            await one.until(lambda: "could not be read" in caplog.text)
            while isinstance(await other.ask(fresh), StorageUnavailable):  # noqa: ASYNC110 - it is a client
                await asyncio.sleep(0.2)
        insisting.cancel()
        assert caplog.text.count("could not be read") == 1


async def test_many_accounts_that_several_processes_open_at_once_are_open_soon(
    valkey: ValkeyServer, redis_database: int
) -> None:
    """As when Redis was started again. Each sent the others back to the start, some accounts for minutes."""
    many = [Holder(f"client:{number}", BUDGETED.limits, (f"{number}",)) for number in range(60)]
    valkey.command("SET", "weighbridge:born", str(wall_us() // 1000 - 4000), database=redis_database)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            one = await stack.enter_async_context(shared(valkey, redis_database))
            one.spending.seconds = 0.01
            stack.push_async_callback(asyncio.wait, [asyncio.create_task(one.limiter.prepare(many))])
            await asyncio.sleep(0.2)
        accounts = [f"weighbridge:a:{holder.name}:usd:day" for holder in many]
        async with asyncio.timeout(8):
            while not all(valkey.command("HEXISTS", account, "spent", database=redis_database) for account in accounts):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.1)
