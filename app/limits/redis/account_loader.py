"""Openings: accounts of budgets start from the ledger, when they are new and when the server has lost them.

    mark ──(an empty server waits until every process has told what it holds)──> read the ledger ──> open

Until then they are shut, and so are the budgets. Who has marked an account has it for some seconds; the others wait.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
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
from app.limits.redis.wire_format import Wording, account_name

LOG = logging.getLogger(__name__)
ADOPTION_SECONDS = 3.0
"""In this time every process that reaches the server has told what it holds (see member.ROUND_SECONDS)."""
COMMIT_SECONDS = 0.3
"""In this time the record of a call that has ended is in the ledger."""
PAUSE_SECONDS = 0.5
OTHERS_SECONDS = (0.05, 0.2)
"""Another process has marked it meanwhile and opens it: so long, and then longer, is waited for that."""

Opened = Callable[[bool], None]

_TO_READ, _OPEN = 0, 1
"""What mark.lua says of an account; it says 2 when another process reads for it."""


class MarkedAccount(NamedTuple):
    """An account that is to be read for."""

    holder: Holder
    budget: Budget
    begins_at: str
    mark: str


class AccountLoader:
    """One per process."""

    def __init__(self, member: Membership, scripts: Scripts, wording: Wording, spending: LedgerSpending) -> None:
        self._member = member
        self._scripts = scripts
        self._wording = wording
        self._spending = spending
        self._numbers = count(1)
        self._turn = asyncio.Lock()
        self._wanted: dict[str, Holder] = {}
        self._waiting: list[Opened] = []
        self._unread = False  # the ledger, when it was to be read last
        self._rests_until = 0.0
        self._wake = asyncio.Event()
        self._now_us: Callable[[], int] = lambda: 0
        self._task: asyncio.Task[None] | None = None

    def start(self, now_us: Callable[[], int]) -> None:
        """Work from now on."""
        self._now_us = now_us
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        self._answer(opened=False)

    def want(self, holders: Iterable[Holder], then: Opened | None = None) -> None:
        """Open the accounts of these as soon as possible. `then` hears of the next attempt whether it was the one."""
        self._wanted.update((holder.name, holder) for holder in holders)
        if then is not None:
            self._waiting.append(then)
        self._wake.set()

    async def open(self, holders: Iterable[Holder]) -> bool:
        """Open them now. False when not all could be: they are wanted then."""
        wanted = [holder for holder in holders if holder.limits.budgets]
        for holder in wanted:
            self._wording.learn(holder)
        if not wanted:
            return True
        async with self._turn:
            rest, wait_seconds = await self._attempt(wanted)
            for pause in OTHERS_SECONDS:
                if not rest or wait_seconds:
                    break
                await asyncio.sleep(pause)
                rest, wait_seconds = await self._attempt(rest)
        if rest:
            asyncio.get_running_loop().call_later(wait_seconds or PAUSE_SECONDS, self.want, rest)
        return not rest

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted, self._wanted = list(self._wanted.values()), {}
            waiting, self._waiting = self._waiting, []
            opened = await self.open(wanted)
            for then in waiting:
                then(opened)

    def _answer(self, *, opened: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(opened)

    async def _attempt(self, holders: list[Holder]) -> tuple[list[Holder], float]:
        """Gives those that could not be opened, and when to try again."""
        line = self._member.line
        if line is None or asyncio.get_running_loop().time() < self._rests_until:
            return holders, PAUSE_SECONDS
        marked: list[MarkedAccount] = []
        try:
            marked, failed, wait_ms, busy = await self._mark(line, holders)
            if wait_ms:
                return holders, wait_ms / 1000
            if busy:
                await asyncio.sleep(COMMIT_SECONDS)
            failed |= {one.holder.name for one in marked if not await self._open(line, one)}
        except (RedisConnectionLost, hiredis.ReplyError):
            return holders, PAUSE_SECONDS
        except Exception as error:  # noqa: BLE001 - whatever it is, they are shut, and it is tried again
            self._say_unread(error)
            for one in marked:  # it is another's turn
                line.send(self._open_command(one, b""), lambda _: None)
            self._rests_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
            return holders, PAUSE_SECONDS
        self._unread = self._unread and not marked
        return [holder for holder in holders if holder.name in failed], 0

    def _say_unread(self, error: Exception) -> None:
        """Once, until the ledger was read again: each call of a client with a budget tries it."""
        if not self._unread:
            known = isinstance(error, StorageUnavailable)  # who writes the ledger tells of it, too
            what = "the ledger could not be read for what clients have spent; their budgets are shut: %s"
            LOG.warning(what, error, exc_info=None if known else error)
        self._unread = True

    async def _mark(
        self, line: RedisConnection, holders: list[Holder]
    ) -> tuple[list[MarkedAccount], set[str], int, bool]:
        """Those to read for; for whom others do; milliseconds to wait first; whether calls of theirs may end now."""
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
            )
            for (holder, budget), mark in zip(pairs, marks, strict=True)
        ]
        replies = await asyncio.gather(*map(line.ask_packed, commands))
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

    async def _open(self, line: RedisConnection, one: MarkedAccount) -> bool:
        spent = await self._spending.since(int(one.begins_at), one.holder.clients)
        return bool(await line.ask_packed(self._open_command(one, spent.of(one.budget.unit))))

    def _open_command(self, one: MarkedAccount, spent: int | bytes) -> bytes:
        names = (one.holder.name, account_name(one.budget))
        return self._scripts.open.command(*names, one.begins_at, one.mark, _members(one.holder), spent)


def _members(holder: Holder) -> str:
    return ",".join(sorted(holder.clients))
