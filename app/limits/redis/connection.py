"""One connection for all commands of a process. They leave together and are answered in order.

hiredis parses the replies. A pool of connections with a task for each command would cost several times as much as the
rest of a limited call.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from app.limits.redis.address import RedisAddress

TIMEOUT_SECONDS = 0.5
"""A server that has not answered by then counts as lost, with all that was asked on this connection."""
LAST_LOOK_SECONDS = 0.05
_NOTHING = object()


class RedisConnectionLost(Exception):
    """The connection broke. Its commands may have run or not."""


Heard = Callable[[Any], None]
"""Called once with the reply: a value, hiredis.ReplyError or RedisConnectionLost."""


class RedisConnection(asyncio.Protocol):
    """`on_lost` is called once, before the waiting callbacks."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[tuple[Heard, float]] = deque()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.is_lost = False

    def send(self, command: bytes, heard: Heard) -> None:
        """Send the command together with all others of this turn of the loop."""
        if self.is_lost:
            heard(RedisConnectionLost())
            return
        self._waiting.append((heard, time.monotonic()))
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(command)
        if self._watch is None:
            self._watch = self._loop.call_later(TIMEOUT_SECONDS, self._check)

    def ask(self, *words: str) -> "asyncio.Future[Any]":
        """Send a command and await its reply. Raises the error. For commands off the hot path."""
        return self.ask_packed(hiredis.pack_command(words))  # type: ignore[arg-type] # see scripts.py

    def ask_packed(self, command: bytes) -> "asyncio.Future[Any]":
        """The same for a packed command."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def heard(reply: Any) -> None:  # noqa: ANN401 - whatever the server says
            if answer.done():
                return
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        self.send(command, heard)
        return answer

    def drop(self, kind: str) -> None:
        """Close the connection, for this reason: closed, timeout, protocol, error."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._on_lost(kind)
        waiting, self._waiting = self._waiting, deque()
        for heard, _ in waiting:
            heard(RedisConnectionLost(kind))

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Replies, or parts of them."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                if not self._waiting:
                    raise hiredis.ProtocolError("a reply to nothing")  # noqa: TRY301 - as the parser's own
                self._waiting.popleft()[0](reply)
                if self.is_lost:
                    return
        except hiredis.ProtocolError:
            self.drop("protocol")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """The server has closed the connection."""
        self.drop("closed")

    def _flush(self) -> None:
        data, self._outgoing = b"".join(self._outgoing), []
        if self._transport is not None and not self.is_lost:
            self._transport.write(data)

    def _check(self, *, last: bool = False) -> None:
        """Drop the connection if the oldest command has waited too long. A late loop gets a second look."""
        self._watch = None
        if not self._waiting:
            return
        rest = self._waiting[0][1] + TIMEOUT_SECONDS - time.monotonic()
        if rest > 0:
            self._watch = self._loop.call_later(rest, self._check)
        elif last:
            self.drop("timeout")
        else:
            self._watch = self._loop.call_later(LAST_LOOK_SECONDS, lambda: self._check(last=True))


async def connect(address: RedisAddress, on_lost: Callable[[str], None]) -> RedisConnection:
    """Connect and greet. Raises OSError, TimeoutError, hiredis.ReplyError or RedisConnectionLost."""
    loop = asyncio.get_running_loop()

    def make() -> RedisConnection:
        return RedisConnection(on_lost)

    async with asyncio.timeout(2 * TIMEOUT_SECONDS):
        if address.path is not None:
            _, connection = await loop.create_unix_connection(make, address.path)
        else:
            tls = ssl.create_default_context() if address.secure else None
            _, connection = await loop.create_connection(make, address.host, address.port, ssl=tls)
        for words in address.greeting():
            try:
                await connection.ask(*words)
            except hiredis.ReplyError:
                connection.drop("error")
                raise
    return connection
