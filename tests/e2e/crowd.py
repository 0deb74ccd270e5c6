"""A crowd of clients: each calls again and again over a connection of its own, and remembers what it was told."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

from tests.e2e.client import SECONDS, raw_request

_ENDS = ("response.completed", "response.incomplete", "response.failed")


@dataclass
class Ask:
    """One call. The client hangs up once it has so many bytes of the answer, if `leave_after` says so."""

    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    leave_after: int | None = None


@dataclass
class Told:
    """One call as its client knows it. `whole`: its answer came to a proper end. Times are monotonic seconds."""

    ask: Ask
    asked_at: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    pieces: list[tuple[float, int]] = field(default_factory=list)  # when, and how much there was then
    whole: bool = False
    left: bool = False

    @property
    def terminal(self) -> Any:  # noqa: ANN401 - JSON
        """The response in the terminal event, or the whole document; None when the client has seen neither."""
        if not self.ask.body.get("stream"):
            return json.loads(self.body) if self.whole else None
        for line in reversed(bytes(self.body).split(b"\n")[:-1]):  # what has no line end is not all there
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if event.get("type") in _ENDS:
                    return event["response"]
        return None

    def came_at(self, offset: int) -> float:
        """When the client had so many bytes of the body."""
        return next(at for at, size in self.pieces if size >= offset)


class _Line(asyncio.Protocol):
    """A connection, for one call after the other. `heard` is called with every piece of an answer."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._transport: asyncio.Transport | None = None
        self._told: Told | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._over: asyncio.Future[None] | None = None

    async def call(self, told: Told, request: bytes) -> None:
        """Until the end of the answer, proper or not."""
        assert self._transport is not None
        if not self.usable:  # lost as soon as it was made
            return
        self._told, self._parser = told, httptools.HttpResponseParser(self)
        self._over = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._over

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio says ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._end()

    # -- the parser says ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._told is not None
        self._told.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._told is not None
        assert self._parser is not None
        self._told.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        told = self._told
        assert told is not None
        if told.left:
            return
        told.body += piece
        told.pieces.append((time.monotonic(), len(told.body)))
        if told.ask.leave_after is not None and len(told.body) >= told.ask.leave_after:
            told.left = True
            self.close()
        self._heard()

    def on_message_complete(self) -> None:
        if self._told is not None:
            self._told.whole = not self._told.left
        self._end()

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class Crowd:
    """So many clients of one gateway. `next_ask` says what is asked next; `heard` follows every piece that comes.

    A client goes home when nobody listens any more, all do after `stop()`, with the end of the calls they have open.
    """

    def __init__(self, url: str, key: str, size: int, next_ask: Callable[[], Ask]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._key = key
        self._size = size
        self._next_ask = next_ask
        self._stopping = False
        self.told: list[Told] = []
        self.pieces = 0
        self.heard: Callable[[], None] = lambda: None

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        """Until the last client has gone home."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._size):
                group.create_task(self._call_again_and_again())

    async def run_for(self, seconds: float) -> None:
        """Stops after so long."""
        asyncio.get_running_loop().call_later(seconds, self.stop)
        await self.run()

    async def _call_again_and_again(self) -> None:
        line = None
        try:
            while not self._stopping:
                if line is None or not line.usable:
                    line = await self._connect()
                ask = self._next_ask()
                told = Told(ask, time.monotonic())
                self.told.append(told)
                await self._answered(line, told)
        except (ConnectionRefusedError, ConnectionResetError):
            return
        finally:
            if line is not None:
                line.close()

    async def _answered(self, line: _Line, told: Told) -> None:
        """An answer ends, unless all were sent home: that of a killed gateway may stay open while its disk is busy."""
        try:
            async with asyncio.timeout(2 * SECONDS):
                await line.call(told, raw_request(self._key, told.ask.body, headers=told.ask.headers))
        except TimeoutError:
            line.close()
            assert self._stopping, (
                f"no end of an answer with status {told.status}, {len(told.body)} bytes of {told.ask}"
            )

    async def _connect(self) -> _Line:
        _, line = await asyncio.get_running_loop().create_connection(lambda: _Line(self._piece), self._host, self._port)
        return line

    def _piece(self) -> None:
        self.pieces += 1
        self.heard()
