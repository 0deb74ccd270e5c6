"""The ASGI side of an exchange: takes the bytes that the gateway pushes, and writes them or awaits the server's send.

    gateway: start, body*, finish | abort | refuse ──> written in the same callback     (our own server, client reading)
                                                  └──> queue ──> run(): await send(...) (one task, the server's own)

Bytes that come while a send is awaited go out together afterwards, so a slow client gets fewer and larger pieces, and a
fast client gets each piece as it came. While more than HIGH_WATER_BYTES wait, the exchange does not read from upstream.
"""

import asyncio
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Send

from app.domain.errors import ApiError
from app.domain.headers import Headers
from app.gateway.exchange.phase import Phase
from app.web.connection.response_cycle import ResponseCycle
from app.web.errors import code_for, error_answer

if TYPE_CHECKING:
    from app.gateway.exchange.exchange import Exchange

HIGH_WATER_BYTES = 64 * 1024


class AsgiDownstream:
    """The gateway's Downstream for one ASGI request. The caller sets `exchange` first."""

    __slots__ = (
        "_broken",
        "_cycle",
        "_ended",
        "_fault",
        "_finished",
        "_head",
        "_headers",
        "_loop",
        "_news",
        "_parts",
        "_paused",
        "_running",
        "_send",
        "_sending",
        "_size",
        "exchange",
        "request_read",
    )

    def __init__(self, send: Send, headers: Headers) -> None:
        self.exchange: Exchange
        self.request_read = False
        self._send = send
        self._headers = headers  # the request's
        server = getattr(send, "__self__", None)
        self._cycle = server if isinstance(server, ResponseCycle) else None
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] | None = None
        self._head: tuple[int, Headers] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._running = False
        self._sending = False
        self._paused = False
        self._finished = False
        self._broken = False
        self._ended = False
        self._fault: RuntimeError | None = None

    # -- the gateway's side ------------------------------------------------------------------------------------

    def start(self, status: int, headers: Headers) -> None:
        """Send status and headers in the loop's next turn: bytes that came with them may have to wait for a commit."""
        self._head = (status, headers)
        self._loop.call_soon(self._announce)

    def body(self, chunk: bytes) -> None:
        """Send bytes."""
        cycle = self._cycle
        if cycle is not None and not cycle.flow.write_paused and not self._sending and not self._parts:
            self._write(cycle, chunk)
            return
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER_BYTES and not self._paused and self._running:
            self._paused = True
            self.exchange.buffer.pause()
        self._wake()

    def finish(self) -> None:
        """End the answer."""
        self._finished = True
        cycle = self._cycle
        if cycle is not None and not cycle.flow.write_paused and not self._sending and not self._parts:
            self._end(cycle)
        self._wake()

    def abort(self) -> None:
        """Break the answer off: run() returns False, and the server drops the connection."""
        self._broken = True
        self._wake()

    def refuse(self, error: ApiError) -> None:
        """Answer with our own error. If the request was not read to its end, the connection closes as well."""
        code = code_for(error, self._headers)
        status, headers, body = error_answer(error, self.exchange.record.request_id, code=code)
        self._head = (status, headers if self.request_read else [*headers, (b"connection", b"close")])
        self._parts.append(body)
        self._finished = True
        self._wake()

    def _announce(self) -> None:
        """Send the head, unless it was sent with bytes of the body, or waits for the commit with them."""
        if self._head is None or self.exchange.phase is Phase.COMMITTING:
            return
        cycle = self._cycle
        if cycle is not None and cycle.at_once and not self._sending and not self._parts:
            self._write(cycle, b"")
        else:
            self._wake()

    def _write(self, cycle: ResponseCycle, chunk: bytes) -> None:
        head, self._head = self._head, None
        try:
            if head is None:
                cycle.write(chunk)
            else:
                cycle.begin(*head, chunk)
        except RuntimeError as fault:
            self._fault = fault
            self.abort()

    def _end(self, cycle: ResponseCycle) -> None:
        if self._head is not None:
            self._write(cycle, b"")
        try:
            cycle.end()
            self._ended = True
        except RuntimeError as fault:
            self._fault = fault

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # -- the server's side -------------------------------------------------------------------------------------

    def gone(self) -> bool:
        """Whether the client is known to have left. Only our own connections can tell before the answer begins."""
        if self._cycle is None:
            return False
        return self._cycle.disconnected

    async def run_watched(self, receive: Receive) -> bool:
        """run(), and notice when the client leaves: told by our own connection, or by `receive` of another server."""
        if self._cycle is None:
            watch = asyncio.ensure_future(receive())  # resolves when the client leaves, or when all is sent
            watch.add_done_callback(lambda _: self.left())
            try:
                return await self.run()
            finally:
                watch.cancel()
        connection = self._cycle.connection
        if connection.transport.is_closing():
            self.left()
        connection.on_lost = self.left
        try:
            return await self.run()
        finally:
            if connection.on_lost == self.left:  # a pipelined request may have begun
                connection.on_lost = None

    async def run(self) -> bool:
        """Send until the end. False when the answer was broken off: the caller must not complete it."""
        self._running = True
        while True:
            if self._ended:
                return True
            if self._fault is not None:
                raise self._fault
            waits = self.exchange.phase is Phase.COMMITTING and not (self._parts or self._finished)
            if self._head is not None and not waits:
                (status, headers), self._head = self._head, None
                await self._send_message({"type": "http.response.start", "status": status, "headers": headers})
            elif self._parts:
                parts, self._parts = self._parts, []
                self._size = 0
                last = self._finished
                chunk = parts[0] if len(parts) == 1 else b"".join(parts)
                await self._send_message({"type": "http.response.body", "body": chunk, "more_body": not last})
                if last:
                    return True
                if self._paused and self._size <= HIGH_WATER_BYTES:
                    self._paused = False
                    self.exchange.buffer.resume()
            elif self._finished:
                await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})
                return True
            elif self._broken:
                return False
            else:
                self._news = self._loop.create_future()
                await self._news
                self._news = None

    async def _send_message(self, message: Message) -> None:
        self._sending = True  # bytes that come meanwhile wait
        await self._send(message)
        self._sending = False

    def left(self) -> None:
        """Note that the client has left, and send nothing more."""
        self.exchange.leave()
        self.abort()
