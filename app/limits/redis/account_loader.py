"""Loads the accounts of budgets from the ledger, when they are new and when the server has lost them.

    mark ──(an empty server waits until every process has told what it holds)──> read the ledger ──> open

Until then the accounts are shut, and calls with such budgets are refused. The process that has marked an account loads
it within some seconds; the others wait.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import NamedTuple

import hiredis

from app.domain.errors import StorageUnavailable
from app.domain.money.budgets import Budget
from app.domain.money.windows import window_of
from app.gateway.admission.spending import LedgerSpending
from app.gateway.limiter import Holder
from app.limits.redis.connection import RedisConnection, RedisConnectionLost
from app.limits.redis.membership import Membership
from app.limits.redis.scripts import Scripts
from app.limits.redis.wire_format import WireFormat, account_key, account_name

LOG = logging.getLogger(__name__)
ADOPTION_SECONDS = 3.0
"""Within this time every process that reaches the server has told what it holds (see membership.ROUND_SECONDS)."""
COMMIT_SECONDS = 0.3
"""Within this time the record of an ended call is in the ledger."""
PAUSE_SECONDS = 0.5
AGAIN_SECONDS = 0.1
"""The pause between two attempts while calls wait."""
WAIT_SECONDS = 1.0
"""How long a call waits for the account of its budget."""
OTHERS_SECONDS = (0.05, 0.2)
"""The first and the second wait for an account that another process loads."""

Opened = Callable[[bool], None]

_TO_READ, _OPEN = 0, 1
"""Replies of mark.lua for an account; 2 means that another process loads it."""


class MarkedAccount(NamedTuple):
    """An account that this process loads."""

    holder: Holder
    budget: Budget
    begins_at: str
    mark: str


class _Waiting(NamedTuple):
    """A call that waits for the accounts of these holders."""

    names: frozenset[str]
    then: Opened
    until: float


class _Rest(NamedTuple):
    """The holders whose accounts are still shut, and when to try again; 0: soon. `failed`: none could be loaded."""

    holders: list[Holder]
    wait_seconds: float = 0.0
    failed: bool = False


class AccountLoader:
    """One per process."""

    def __init__(self, member: Membership, scripts: Scripts, wire_format: WireFormat, spending: LedgerSpending) -> None:
        self._member = member
        self._scripts = scripts
        self._format = wire_format
        self._spending = spending
        self._numbers = count(1)
        self._turn = asyncio.Lock()
        self._wanted: dict[str, Holder] = {}
        self._waiting: list[_Waiting] = []
        self._later: dict[str, Holder] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unread = False  # the last reading of the ledger failed
        self._rests_until = 0.0
        self._wake = asyncio.Event()
        self._now_us: Callable[[], int] = lambda: 0
        self._task: asyncio.Task[None] | None = None

    def start(self, now_us: Callable[[], int]) -> None:
        """Start to work."""
        self._now_us = now_us
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._timer is not None:
            self._timer.cancel()
        self._answer(opened=False)

    def want(self, holders: Iterable[Holder], then: Opened | None = None) -> None:
        """Open the accounts of these holders as soon as possible.

        `then` is called with whether they are open: after WAIT_SECONDS at most, and at once if it must take longer or
        the ledger cannot be read.
        """
        asked = {holder.name: holder for holder in holders}
        self._wanted.update(asked)
        if then is not None:
            until = asyncio.get_running_loop().time() + WAIT_SECONDS
            self._waiting.append(_Waiting(frozenset(asked), then, until))
        self._wake.set()

    async def open(self, holders: Iterable[Holder], new: Collection[str] = ()) -> bool:
        """Open the accounts now. False if some could not be opened; they are tried again.

        `new` are keys of accounts of which no process holds anything: they need no waiting for other processes.
        """
        rest = await self._open_now(holders, new)
        if rest.holders:
            self._want_later(rest.wait_seconds or PAUSE_SECONDS, rest.holders)
        return not rest.holders

    async def _open_now(self, holders: Iterable[Holder], new: Collection[str] = ()) -> "_Rest":
        wanted = [holder for holder in holders if holder.limits.budgets]
        for holder in wanted:
            self._format.learn(holder)
        if not wanted:
            return _Rest([])
        async with self._turn:
            rest = await self._attempt(wanted, new)
            for pause in OTHERS_SECONDS:
                if not rest.holders or rest.wait_seconds:
                    break
                await asyncio.sleep(pause)
                rest = await self._attempt(rest.holders, new)
        return rest

    async def _work(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted, self._wanted = list(self._wanted.values()), {}
            waiting, self._waiting = self._waiting, []
            rest = await self._open_now(wanted)
            shut = {holder.name for holder in rest.holders}
            for one in waiting:
                if one.names.isdisjoint(shut):
                    one.then(True)
                elif rest.failed or now() + rest.wait_seconds > one.until:
                    one.then(False)
                else:
                    self._waiting.append(one)
            if rest.holders:
                self._want_later(rest.wait_seconds or (AGAIN_SECONDS if self._waiting else PAUSE_SECONDS), rest.holders)

    def _want_later(self, seconds: float, holders: Iterable[Holder]) -> None:
        """One timer at a time, the soonest."""
        loop = asyncio.get_running_loop()
        self._later.update((holder.name, holder) for holder in holders)
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._want_now)

    def _want_now(self) -> None:
        self._timer = None
        later, self._later = self._later, {}
        self.want(later.values())

    def _answer(self, *, opened: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.then(opened)

    async def _attempt(self, holders: list[Holder], new: Collection[str]) -> "_Rest":
        connection = self._member.connection
        if connection is None or asyncio.get_running_loop().time() < self._rests_until:
            return _Rest(holders, PAUSE_SECONDS, failed=True)
        marked: list[MarkedAccount] = []
        try:
            marked, failed, wait_ms, busy = await self._mark(connection, holders, new)
            if wait_ms:
                return _Rest(holders, wait_ms / 1000)
            if busy:
                await asyncio.sleep(COMMIT_SECONDS)
            failed |= {one.holder.name for one in marked if not await self._open(connection, one)}
        except (RedisConnectionLost, hiredis.ReplyError):
            return _Rest(holders, PAUSE_SECONDS, failed=True)
        except Exception as error:  # noqa: BLE001 - the accounts stay shut, and it tries again
            self._say_unread(error)
            for one in marked:  # let another process load them
                connection.send(self._open_command(one, b""), lambda _: None)
            self._rests_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
            return _Rest(holders, PAUSE_SECONDS, failed=True)
        self._unread = self._unread and not marked
        return _Rest([holder for holder in holders if holder.name in failed])

    def _say_unread(self, error: Exception) -> None:
        """Log the failure once, until the ledger was read again: each call of a budgeted client tries it."""
        if not self._unread:
            known = isinstance(error, StorageUnavailable)  # the store logs it, too
            what = "the ledger could not be read for what clients have spent, so their budgets admit no calls: %s"
            LOG.warning(what, error, exc_info=None if known else error)
        self._unread = True

    async def _mark(
        self, connection: RedisConnection, holders: list[Holder], new: Collection[str]
    ) -> tuple[list[MarkedAccount], set[str], int, bool]:
        """The accounts to load; holders that others load; milliseconds to wait first; whether calls may be ending."""
        at_us = self._now_us()
        pairs = [(holder, budget) for holder in holders for budget in holder.limits.budgets]
        marks = [f"{self._member.name}:{next(self._numbers)}" for _ in pairs]
        commands = [
            self._scripts.mark.command(
                holder.name,
                account_name(budget),
                window_of(budget.period, at_us).begins_at,
                mark,
                _members(holder),
                int(ADOPTION_SECONDS * 1000),
                int(account_key(holder, budget) in new),
            )
            for (holder, budget), mark in zip(pairs, marks, strict=True)
        ]
        replies = await asyncio.gather(*map(connection.ask_packed, commands))
        found = [
            (MarkedAccount(holder, budget, str(reply[1]), mark), reply[2], reply[3])
            for (holder, budget), mark, reply in zip(pairs, marks, replies, strict=True)
            if reply[0] == _TO_READ
        ]
        others = {
            holder.name for (holder, _), reply in zip(pairs, replies, strict=True) if reply[0] not in (_TO_READ, _OPEN)
        }
        wait_ms = max((wait for _, wait, _ in found), default=0)
        return [one for one, _, _ in found], others, wait_ms, any(busy for _, _, busy in found)

    async def _open(self, connection: RedisConnection, one: MarkedAccount) -> bool:
        spent = await self._spending.since(int(one.begins_at), one.holder.clients)
        return bool(await connection.ask_packed(self._open_command(one, spent.of(one.budget.unit))))

    def _open_command(self, one: MarkedAccount, spent: int | bytes) -> bytes:
        names = (one.holder.name, account_name(one.budget))
        return self._scripts.open.command(*names, one.begins_at, one.mark, _members(one.holder), spent)


def _members(holder: Holder) -> str:
    return ",".join(sorted(holder.clients))
