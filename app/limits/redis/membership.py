"""A Member: this process among those that share the limits, as long as it says that it lives.

    connect ──> scripts ──> join ──known──────────────────────────────┬──> what is untold ──> in: `line` is there
       ^ pause                 └──not any more──> a new name ──> adopt ┘                        │ every second: join
       └──────────────────────────────────────────────────────────────── lost <────────────────┘

Out of it, nothing is asked and nobody waits: what ends is told later.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import hiredis

from app.limits.redis.address import RedisAddress
from app.limits.redis.connection import RedisConnection, RedisConnectionLost, open_line
from app.limits.redis.grant import End, RedisGrant, Undelivered
from app.limits.redis.scripts import Scripts
from app.limits.redis.wire_format import Wording, ask_json

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 10.0
"""What a process holds that says nothing for so long is not held any more; its calls count as spent by then."""
ROUND_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
MOST_UNTOLD = 100_000
MOST_FAILURES = 3
"""So often what its script breaks at is told: for ever, it would cost this process a connection every time."""
NOT_YET = "not connected yet"
ERRORS = ("connect", "timeout", "closed", "protocol", "error", "dropped")
"""Could not connect; no answer in time; broken off; not understood; an error for an answer; an end never told."""


class Membership:
    """One per process. `line` is None while nothing can be asked; `open` are the calls under way, by number."""

    def __init__(self, address: RedisAddress, scripts: Scripts, wording: Wording, lease_seconds: float) -> None:
        self.line: RedisConnection | None = None
        self.name = ""
        self.connection = 0
        self.open: dict[int, RedisGrant] = {}
        self.errors = dict.fromkeys(ERRORS, 0)
        self.problem: str | None = NOT_YET
        self._address = address
        self._lease_ms = int(lease_seconds * 1000)
        self._scripts = scripts
        self._wording = wording
        self._run = b""
        self._untold: deque[Undelivered] = deque()
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Come in if that can be done at once; else it is tried on and on."""
        self._task = asyncio.get_running_loop().create_task(self._live())
        await self._tried.wait()

    async def close(self) -> None:
        """Leave: what is untold is told if that can be done at once, and the name is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        line, self.line = self.line, None
        if line is None:
            return
        with contextlib.suppress(
            RedisConnectionLost, hiredis.ReplyError
        ):  # replies come in order: by this one all are there
            await line.ask("PING" if self.open else "DEL", *(() if self.open else (f"weighbridge:p:{self.name}",)))
        line.lose("closed")

    def tell(self, untold: Undelivered) -> None:
        """Tell it now, and again if it is not certain that it was heard."""
        line = self.line
        if line is None:
            self._untold.append(untold)
            if len(self._untold) > MOST_UNTOLD:
                self._untold.popleft()
                self.errors["dropped"] += 1
        else:
            self._send(line, untold)

    async def told(self) -> bool:
        """Has the server heard of everything? Replies come in order."""
        with contextlib.suppress(RedisConnectionLost, hiredis.ReplyError):
            if self.line is not None:
                await self.line.ask("PING")
        return self.line is not None and not self._untold

    def unknown(self) -> None:
        """The server does not know us any more."""
        self.line = None
        self.wake()

    def wake(self) -> None:
        """Look at once whether the server knows us."""
        self._wake.set()

    async def joined(self) -> bool:
        """Does the server know this connection of this process?"""
        with contextlib.suppress(RedisConnectionLost, hiredis.ReplyError):
            if self.line is not None:
                known = await self.line.ask("GET", f"weighbridge:p:{self.name}")
                return bool(known == str(self.connection).encode())
        return False

    def failed(self, line: RedisConnection, error: hiredis.ReplyError) -> None:
        """An error instead of an answer: it is not the server that we need, or not yet."""
        self.problem = f"it answers {str(error)[:100]!r}"
        line.lose("error")

    def _send(self, line: RedisConnection, untold: Undelivered) -> None:
        if isinstance(untold, End):
            self.open.pop(untold.grant.number, None)
        line.send(untold.command(), partial(self._told, line, untold))

    def _told(self, line: RedisConnection, untold: Undelivered, reply: Any) -> None:  # noqa: ANN401 - whatever the server says
        if not isinstance(reply, Exception):
            return
        broken = _is_broken_script(reply)
        untold.failures += broken
        if untold.failures < MOST_FAILURES:
            self._untold.append(untold)
        else:
            self.errors["dropped"] += 1
            LOG.error("Redis at %r breaks at what it is told, so it is not told again: %s", self._address, reply)
        if isinstance(reply, hiredis.ReplyError):
            self.failed(line, reply)

    # -- the life of a member ----------------------------------------------------------------------------------

    async def _live(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                line = await open_line(self._address, self._lost)
                with _given_up_on_error(line):
                    await self._enter(line)
                    self._tried.set()
                    pause = FIRST_PAUSE_SECONDS
                    await self._stay(line)
            except (OSError, hiredis.HiredisError, RedisConnectionLost) as error:  # TimeoutError is an OSError
                self._trouble(error)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _trouble(self, error: Exception) -> None:
        if isinstance(error, RedisConnectionLost):  # that was counted
            if self.problem in {None, NOT_YET}:
                self.problem = "it does not answer as Redis does"
                LOG.warning("Redis at %r is of no use: %s", self._address, self.problem)
        else:
            self.errors["error" if isinstance(error, hiredis.ReplyError) else "connect"] += 1
            problem = (
                f"it answers {str(error)[:100]!r}" if isinstance(error, hiredis.ReplyError) else "it is not reached"
            )
            if self.problem != problem:
                LOG.warning("Redis at %r is of no use: %s", self._address, problem)
            self.problem = problem

    def _lost(self, kind: str) -> None:
        self.errors[kind] += 1
        if self.line is not None:
            self.line = None
            self.problem = self.problem or f"the connection was lost ({kind})"
            LOG.warning("Redis at %r is of no use: %s", self._address, self.problem)
        self._wake.set()

    async def _enter(self, line: RedisConnection) -> None:
        """Raises Lost or hiredis.ReplyError."""
        await asyncio.gather(*(line.ask("SCRIPT", "LOAD", script.source) for script in self._scripts.all.values()))
        self._run = _run_of(await line.ask("INFO", "server"))
        self.connection += 1
        if self.name and await self._join(line):
            await self._adopt(line, [grant for grant in self.open.values() if grant.doubtful or not grant.over])
        else:
            await self._join_anew(line)
        self._come_in(line)

    def _come_in(self, line: RedisConnection) -> None:
        if line.is_lost:
            raise RedisConnectionLost("closed")
        if self.problem is not None:
            LOG.info("Redis at %r is there", self._address)
        self.line, self.problem = line, None
        untold, self._untold = self._untold, deque()
        for one in untold:
            self._send(line, one)

    async def _stay(self, line: RedisConnection) -> None:
        """Until the line is lost."""
        while True:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._wake.wait()
            if not await self._join(line):  # raises Lost when it is
                self.line = None
                LOG.warning("Redis at %r has forgotten this process, and what it held", self._address)
                self.problem = "it has forgotten this process"
                await self._join_anew(line)
                self._come_in(line)

    async def _join(self, line: RedisConnection, *, new: bool = False) -> bool:
        command = self._scripts.join.command(self.name, self.connection, self._lease_ms, int(new), self._run)
        return bool(await line.ask_packed(command))

    async def _join_anew(self, line: RedisConnection) -> None:
        self.name = secrets.token_hex(6)
        await self._join(line, new=True)
        await self._adopt(line, [grant for grant in self.open.values() if not grant.over])

    async def _adopt(self, line: RedisConnection, grants: Iterable[RedisGrant]) -> None:
        """These hold under the new name what they held under another."""
        await asyncio.gather(*(self._adopt_one(line, grant) for grant in grants if grant.process != self.name))

    async def _adopt_one(self, line: RedisConnection, grant: RedisGrant) -> None:
        said = ask_json(self.name, self.connection, grant.number, grant.ask, self._wording.holders(grant.ask))
        grant.doubtful = True
        await line.ask_packed(self._scripts.adopt.command(said, grant.process))
        grant.process, grant.doubtful = self.name, False


def _run_of(info: bytes) -> bytes:
    """Which run of the server it is; each start is another."""
    lines = dict(line.partition(b":")[::2] for line in info.splitlines())
    return lines.get(b"run_id", b"")


def _is_broken_script(reply: Exception) -> bool:
    """An error made by our script itself; one of the server (OOM, READONLY, LOADING, ...) has another first word."""
    text = str(reply)
    return isinstance(reply, hiredis.ReplyError) and text.startswith("ERR ") and "user_script" in text


@contextlib.contextmanager
def _given_up_on_error(line: RedisConnection) -> Iterator[None]:
    try:
        yield
    except hiredis.ReplyError:
        line.lose("error")
        raise
