"""The Limiter in Redis or Valkey: one script takes everything that a call needs, or nothing.

While the server is away, rates and concurrency admit all calls or none, as the settings say; budgets admit none. No
call waits for the server then, except those that were being checked when it went away.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import Any, Self

import hiredis

from app.domain.errors import StorageUnavailable
from app.domain.money.limits import NO_LIMITS
from app.gateway.admission.spending import LedgerSpending
from app.gateway.limiter import Amendment, Answered, Holder, HolderReading, LimitRequest
from app.limits.redis.account_loader import AccountLoader
from app.limits.redis.address import RedisAddress
from app.limits.redis.connection import RedisConnection, RedisConnectionLost
from app.limits.redis.grant import CallEnd, Command, RedisGrant, UnlimitedGrant
from app.limits.redis.membership import LEASE_SECONDS, Membership
from app.limits.redis.replies import GRANTED, REFUSED, SHUT, holder_reading, readings, refusal
from app.limits.redis.scripts import Scripts
from app.limits.redis.wire_format import MOST, WireFormat, account_key, ask_json

CHANGE_SECONDS = 2.0
"""Within this time every process has heard of a change of terms."""
AWAY = "Limits cannot be checked at the moment. Try again in a moment."
NOT_KNOWN = "What was spent of a budget is not known yet. Try again in a moment."


class RedisLimiter:
    """One per process. `unjudged` counts calls whose limits could not be checked, by what became of them."""

    def __init__(  # noqa: PLR0913 - the last two are for tests
        self,
        url: str,
        spending: LedgerSpending,
        now_us: Callable[[], int],
        *,
        fail_open: bool = True,
        scripts: Scripts | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Raises LimiterUnusable for a URL that cannot be used."""
        self._scripts = scripts or Scripts()
        self._format = WireFormat()
        self.member = Membership(RedisAddress(url), self._scripts, self._format, lease_seconds)
        self._loader = AccountLoader(self.member, self._scripts, self._format, spending)
        self._now_us = now_us
        self._fail_open = fail_open
        self._numbers = count(1)
        self._stack = AsyncExitStack()
        self.unjudged = {"admitted": 0, "refused": 0}

    async def __aenter__(self) -> Self:
        """Connect at once if possible, else keep trying."""
        await self.member.start()
        self._stack.push_async_callback(self.member.close)
        self._loader.start(self._now_us)
        self._stack.push_async_callback(self._loader.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Deliver what can be delivered at once."""
        await self._stack.aclose()

    @property
    def problem(self) -> str | None:
        """What is wrong with the server, in a sentence for operators."""
        if self.member.problem is None:
            return None
        rates = "do not hold" if self._fail_open else "refuse everybody"
        return f"Redis: {self.member.problem}; rates {rates}, budgets refuse everybody"

    @property
    def errors(self) -> Mapping[str, int]:
        """What went wrong with the server, by kind (see app.limits.redis.membership)."""
        return self.member.errors

    def reserve(self, ask: LimitRequest, answered: Answered) -> None:
        if ask.holders:
            self._reserve(ask, answered, again=True)
        else:
            answered(UnlimitedGrant(ask))

    def correct(self, amendment: Amendment) -> None:
        accounts = self._format.spending(amendment.holders)
        if accounts:
            more = (min(amendment.tokens, MOST), min(amendment.cost_nanousd, MOST))
            arguments = (amendment.at_us, *more, accounts, int(amendment.given_up))
            self.member.deliver(Command(self._scripts.correct.command(amendment.request_id, *arguments)))

    async def prepare(self, holders: Sequence[Holder], before: Mapping[str, Holder] | None = None) -> None:
        """Accounts that cannot be opened now are opened later. Never raises.

        Accounts of removed budgets are shut once all processes know of the change, since calls by the old terms may
        come until then. A budget that is set again starts from the ledger.
        """
        new = set()
        for holder in holders:
            for key in self._format.forget(holder):
                asyncio.get_running_loop().call_later(CHANGE_SECONDS, self._shut, key)
            new |= self._format.returning(holder)
            if before is not None:
                was = before[holder.name].limits if holder.name in before else NO_LIMITS
                new |= {account_key(holder, b) for b in holder.limits.budgets if not was.has_account_of(b)}
        await self._loader.open(holders, new)

    def _shut(self, key: str) -> None:
        if not self._format.counts(key):
            words = ("HDEL", key, "spent", "members")
            self.member.deliver(Command(hiredis.pack_command(words)))  # type: ignore[arg-type] # see scripts.py

    async def reading(self, holder: Holder, at_us: int) -> HolderReading:
        for _ in range(2):
            connection = self.member.connection
            if connection is None:
                raise StorageUnavailable(AWAY)
            try:
                reply = await connection.ask_packed(self._scripts.look.command(self._format.holder(holder, at_us)))
            except (RedisConnectionLost, hiredis.ReplyError):
                raise StorageUnavailable(AWAY) from None
            if reply[0] == GRANTED:
                return holder_reading(holder, reply)
            await self._loader.open([holder])
        raise StorageUnavailable(NOT_KNOWN)

    async def settled(self) -> bool:
        """Wait until the server has all ends of calls. False if it cannot get them now."""
        return await self.member.all_delivered()

    def _reserve(self, ask: LimitRequest, answered: Answered, *, again: bool) -> None:
        member = self.member
        connection = member.connection
        if connection is None:
            self._without(ask, answered)
            return
        grant = RedisGrant(ask, member.name, next(self._numbers), self._end)
        said = ask_json(member.name, member.connection_number, grant.number, ask, self._format.holders(ask))
        connection.send(self._scripts.reserve.command(said), partial(self._judged, connection, grant, answered, again))

    def _judged(
        self,
        connection: RedisConnection,
        grant: RedisGrant,
        answered: Answered,
        again: bool,  # noqa: FBT001 - the first try: a shut account is opened, and then it is tried again
        reply: Any,  # noqa: ANN401 - any value of RESP
    ) -> None:
        ask = grant.ask
        if isinstance(reply, Exception):
            self._doubted(connection, grant, reply)
            self._without(ask, answered)
        elif reply[0] == GRANTED:
            grant.tokens, grant.cost_nanousd = reply[1], reply[2]
            grant.readings = readings(ask.holders, reply[3:]) if len(reply) > 3 else ()
            self.member.open[grant.number] = grant
            answered(grant)
        elif reply[0] == REFUSED:
            answered(refusal(ask, reply))
        elif reply[0] != SHUT:
            self.member.unknown()
            self._without(ask, answered)
        elif again:
            self._loader.want((ask.holders[reply[1]],), partial(self._opened, ask, answered))
        else:
            self._opened(ask, answered, opened=False)

    def _opened(self, ask: LimitRequest, answered: Answered, opened: bool) -> None:  # noqa: FBT001 - as Opened says it
        """The attempt to open a shut account has ended."""
        if opened:
            self._reserve(ask, answered, again=False)
        else:
            self.unjudged["refused"] += 1
            answered(StorageUnavailable(NOT_KNOWN))

    def _doubted(self, connection: RedisConnection, grant: RedisGrant, error: Exception) -> None:
        """Give back whatever the server may have taken for this call."""
        grant.over = True
        if isinstance(error, hiredis.ReplyError):
            self.member.failed(connection, error)
        self.member.deliver(CallEnd(self._scripts.settle, grant, (0, 0), b"", back=True))

    def _without(self, ask: LimitRequest, answered: Answered) -> None:
        """Answer a call whose limits cannot be checked."""
        if self._fail_open and not any(holder.limits.budgets for holder in ask.holders):
            self.unjudged["admitted"] += 1
            answered(UnlimitedGrant(ask))
        else:
            self.unjudged["refused"] += 1
            answered(StorageUnavailable(AWAY))

    def _end(self, grant: RedisGrant, tokens: int, cost: int, back: bool) -> None:  # noqa: FBT001 - see RedisGrant
        accounts = b"" if back else self._format.spending(grant.ask.holders)
        if tokens > MOST or cost > MOST:
            tokens, cost = min(tokens, MOST), min(cost, MOST)
        self.member.deliver(CallEnd(self._scripts.settle, grant, (tokens, cost), accounts, back=back))
