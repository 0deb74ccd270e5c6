"""The membership of this process among those that share the limits. The process renews it every second.

    connect ──> scripts ──> join ──known──────────────────────────────┬──> undelivered messages ──> `connection` is set
       ^ pause                 └──not any more──> a new name ──> adopt ┘                        │ every second: join
       └──────────────────────────────────────────────────────────────── lost <────────────────┘

Without a connection nothing is asked and no call waits; ends of calls are delivered later.
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
from app.limits.redis.connection import RedisConnection, RedisConnectionLost, connect
from app.limits.redis.grant import CallEnd, RedisGrant, Undelivered
from app.limits.redis.scripts import Scripts
from app.limits.redis.wire_format import WireFormat, ask_json

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 10.0
"""A process that is silent for so long loses its slots and reservations; the ledger counts its calls by then."""
ROUND_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
MOST_UNDELIVERED = 100_000
MOST_FAILURES = 3
"""How often a message that breaks its script is sent: each time costs the connection."""
NOT_YET = "not connected yet"
ERRORS = ("connect", "timeout", "closed", "protocol", "error", "dropped")
"""Could not connect; no answer in time; closed by the server; not RESP; an error reply; a message given up."""


class Membership:
    """One per process. `connection` is None while the server cannot be asked; `open` are the open calls, by number."""

    def __init__(self, address: RedisAddress, scripts: Scripts, wire_format: WireFormat, lease_seconds: float) -> None:
        self.connection: RedisConnection | None = None
        self.name = ""
        self.connection_number = 0
        self.open: dict[int, RedisGrant] = {}
        self.errors = dict.fromkeys(ERRORS, 0)
        self.problem: str | None = NOT_YET
        self._address = address
        self._lease_ms = int(lease_seconds * 1000)
        self._scripts = scripts
        self._format = wire_format
        self._run = b""
        self._undelivered: deque[Undelivered] = deque()
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join at once if possible, else keep trying."""
        self._task = asyncio.get_running_loop().create_task(self._live())
        await self._tried.wait()

    async def close(self) -> None:
        """Deliver what can be delivered at once, and give the name up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        connection, self.connection = self.connection, None
        if connection is None:
            return
        words = ("PING",) if self.open else ("DEL", f"weighbridge:p:{self.name}")
        with contextlib.suppress(RedisConnectionLost, hiredis.ReplyError):
            await connection.ask(*words)  # replies come in order: with this one all have come
        connection.drop("closed")

    def deliver(self, undelivered: Undelivered) -> None:
        """Send a message now, and again until the server has replied."""
        connection = self.connection
        if connection is None:
            self._undelivered.append(undelivered)
            if len(self._undelivered) > MOST_UNDELIVERED:
                self._undelivered.popleft()
                self.errors["dropped"] += 1
        else:
            self._send(connection, undelivered)

    async def all_delivered(self) -> bool:
        """Whether the server has got all messages. Replies come in order."""
        with contextlib.suppress(RedisConnectionLost, hiredis.ReplyError):
            if self.connection is not None:
                await self.connection.ask("PING")
        return self.connection is not None and not self._undelivered

    def unknown(self) -> None:
        """The server does not know this process any more."""
        self.connection = None
        self.wake()

    def wake(self) -> None:
        """Check at once whether the server knows this process."""
        self._wake.set()

    async def joined(self) -> bool:
        """Whether the server knows this connection of this process."""
        with contextlib.suppress(RedisConnectionLost, hiredis.ReplyError):
            if self.connection is not None:
                known = await self.connection.ask("GET", f"weighbridge:p:{self.name}")
                return bool(known == str(self.connection_number).encode())
        return False

    def failed(self, connection: RedisConnection, error: hiredis.ReplyError) -> None:
        """The server replied with an error: it is not usable, or not yet."""
        self.problem = f"it answers {str(error)[:100]!r}"
        connection.drop("error")

    def _send(self, connection: RedisConnection, undelivered: Undelivered) -> None:
        if isinstance(undelivered, CallEnd):
            self.open.pop(undelivered.grant.number, None)
        connection.send(undelivered.command(), partial(self._delivered, connection, undelivered))

    def _delivered(self, connection: RedisConnection, undelivered: Undelivered, reply: Any) -> None:  # noqa: ANN401 - whatever the server says
        if not isinstance(reply, Exception):
            return
        broken = _is_broken_script(reply)
        undelivered.failures += broken
        if undelivered.failures < MOST_FAILURES:
            self._undelivered.append(undelivered)
        else:
            self.errors["dropped"] += 1
            LOG.error("Redis at %r cannot process a message, which is not sent again: %s", self._address, reply)
        if isinstance(reply, hiredis.ReplyError):
            self.failed(connection, reply)

    # -- the life of a member ----------------------------------------------------------------------------------

    async def _live(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = await connect(self._address, self._lost)
                with _given_up_on_error(connection):
                    await self._enter(connection)
                    self._tried.set()
                    pause = FIRST_PAUSE_SECONDS
                    await self._stay(connection)
            except (OSError, hiredis.HiredisError, RedisConnectionLost) as error:  # TimeoutError is an OSError
                self._trouble(error)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _trouble(self, error: Exception) -> None:
        if isinstance(error, RedisConnectionLost):  # already counted
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
        if self.connection is not None:
            self.connection = None
            self.problem = self.problem or f"the connection was lost ({kind})"
            LOG.warning("Redis at %r is of no use: %s", self._address, self.problem)
        self._wake.set()

    async def _enter(self, connection: RedisConnection) -> None:
        """Raises RedisConnectionLost or hiredis.ReplyError."""
        await asyncio.gather(
            *(connection.ask("SCRIPT", "LOAD", script.source) for script in self._scripts.all.values())
        )
        self._run = _run_of(await connection.ask("INFO", "server"))
        self.connection_number += 1
        if self.name and await self._join(connection):
            await self._adopt(connection, [grant for grant in self.open.values() if grant.doubtful or not grant.over])
        else:
            await self._join_anew(connection)
        self._come_in(connection)

    def _come_in(self, connection: RedisConnection) -> None:
        if connection.is_lost:
            raise RedisConnectionLost("closed")
        if self.problem is not None:
            LOG.info("Redis at %r is reached", self._address)
        self.connection, self.problem = connection, None
        undelivered, self._undelivered = self._undelivered, deque()
        for one in undelivered:
            self._send(connection, one)

    async def _stay(self, connection: RedisConnection) -> None:
        """Renew the membership until the connection is lost."""
        while True:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._wake.wait()
            if not await self._join(connection):
                self.connection = None
                LOG.warning("Redis at %r has forgotten this process, and what it held", self._address)
                self.problem = "it has forgotten this process"
                await self._join_anew(connection)
                self._come_in(connection)

    async def _join(self, connection: RedisConnection, *, new: bool = False) -> bool:
        command = self._scripts.join.command(self.name, self.connection_number, self._lease_ms, int(new), self._run)
        return bool(await connection.ask_packed(command))

    async def _join_anew(self, connection: RedisConnection) -> None:
        self.name = secrets.token_hex(6)
        await self._join(connection, new=True)
        await self._adopt(connection, [grant for grant in self.open.values() if not grant.over])

    async def _adopt(self, connection: RedisConnection, grants: Iterable[RedisGrant]) -> None:
        """Move what these grants hold from an old name to the current one."""
        await asyncio.gather(*(self._adopt_one(connection, grant) for grant in grants if grant.process != self.name))

    async def _adopt_one(self, connection: RedisConnection, grant: RedisGrant) -> None:
        said = ask_json(self.name, self.connection_number, grant.number, grant.ask, self._format.holders(grant.ask))
        grant.doubtful = True
        await connection.ask_packed(self._scripts.adopt.command(said, grant.process))
        grant.process, grant.doubtful = self.name, False


def _run_of(info: bytes) -> bytes:
    """The id of the server's run, which changes with each start."""
    lines = dict(line.partition(b":")[::2] for line in info.splitlines())
    return lines.get(b"run_id", b"")


def _is_broken_script(reply: Exception) -> bool:
    """Whether our script itself failed. Errors of the server (OOM, READONLY, LOADING, ...) begin with another word."""
    text = str(reply)
    return isinstance(reply, hiredis.ReplyError) and text.startswith("ERR ") and "user_script" in text


@contextlib.contextmanager
def _given_up_on_error(connection: RedisConnection) -> Iterator[None]:
    try:
        yield
    except hiredis.ReplyError:
        connection.drop("error")
        raise
