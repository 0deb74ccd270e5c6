"""The ASGI side of an exchange: takes bytes pushed by the gateway, and writes them or awaits the server's send.

    gateway: start, body*, finish | abort | refuse ──> written in the same callback     (our own server, client reading)
                                                  └──> queue ──> run(): await send(...) (one task, the server's own)

Everything that has come while a send was awaited goes out in one piece, so a slow client gets fewer, larger pieces and
a quick one gets each as it came. When more than HIGH_WATER bytes wait, the exchange stops reading from upstream.
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
    """Implements the gateway's Downstream for one ASGI request. `exchange` is set before anything else happens."""

    __slots__ = (
        "_answering",
        "_broken",
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
        self._answering = server if isinstance(server, ResponseCycle) else None
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
        """Send status and headers: in the loop's next turn, since what came with them may have to wait for a commit."""
        self._head = (status, headers)
        self._loop.call_soon(self._announce)

    def body(self, chunk: bytes) -> None:
        """Send bytes."""
        answering = self._answering
        if answering is not None and not answering.flow.write_paused and not self._sending and not self._parts:
            self._write(answering, chunk)
            return
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER_BYTES and not self._paused and self._running:
            self._paused = True
            self.exchange.buffer.pause()
        self._wake()

    def finish(self) -> None:
        """End properly."""
        self._finished = True
        answering = self._answering
        if answering is not None and not answering.flow.write_paused and not self._sending and not self._parts:
            self._end(answering)
        self._wake()

    def abort(self) -> None:
        """End without a proper end: run() returns early, and the server drops the connection."""
        self._broken = True
        self._wake()

    def refuse(self, error: ApiError) -> None:
        """Answer with an error of ours; if the request was not read to its end, the connection ends with it."""
        code = code_for(error, self._headers)
        status, headers, body = error_answer(error, self.exchange.record.request_id, code=code)
        self._head = (status, headers if self.request_read else [*headers, (b"connection", b"close")])
        self._parts.append(body)
        self._finished = True
        self._wake()

    def _announce(self) -> None:
        """Send the head, unless it has gone out with bytes behind it, or waits for the commit together with them."""
        if self._head is None or self.exchange.phase is Phase.COMMITTING:
            return
        answering = self._answering
        if answering is not None and answering.at_once and not self._sending and not self._parts:
            self._write(answering, b"")
        else:
            self._wake()

    def _write(self, answering: ResponseCycle, chunk: bytes) -> None:
        head, self._head = self._head, None
        try:
            if head is None:
                answering.write(chunk)
            else:
                answering.begin(*head, chunk)
        except RuntimeError as fault:
            self._fault = fault
            self.abort()

    def _end(self, answering: ResponseCycle) -> None:
        if self._head is not None:
            self._write(answering, b"")
        try:
            answering.end()
            self._ended = True
        except RuntimeError as fault:
            self._fault = fault

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # -- the server's side -------------------------------------------------------------------------------------

    def gone(self) -> bool:
        """Has the client left, as far as is known? Asked while its request is judged; our own connections know."""
        if self._answering is None:
            return False
        return self._answering.disconnected

    async def run_watched(self, receive: Receive) -> bool:
        """run(), and hear when the client leaves: from our own connection, or by `receive` from any other server."""
        if self._answering is None:
            watch = asyncio.ensure_future(receive())  # resolves when the client leaves, or when all is sent
            watch.add_done_callback(lambda _: self.left())
            try:
                return await self.run()
            finally:
                watch.cancel()
        connection = self._answering.connection
        if connection.transport.is_closing():
            self.left()
        connection.on_lost = self.left
        try:
            return await self.run()
        finally:
            if connection.on_lost == self.left:  # a pipelined request may have begun
                connection.on_lost = None

    async def run(self) -> bool:
        """Send until the end. False when the answer was broken off (the caller must not complete it)."""
        self._running = True
        while True:
            if self._ended:
                return True
            if self._fault is not None:
                raise self._fault
            waits = self.exchange.phase is Phase.COMMITTING and not (self._parts or self._finished)
            if self._head is not None and not waits:
                (status, headers), self._head = self._head, None
                await self._hand({"type": "http.response.start", "status": status, "headers": headers})
            elif self._parts:
                parts, self._parts = self._parts, []
                self._size = 0
                last = self._finished
                chunk = parts[0] if len(parts) == 1 else b"".join(parts)
                await self._hand({"type": "http.response.body", "body": chunk, "more_body": not last})
                if last:
                    return True
                if self._paused and self._size <= HIGH_WATER_BYTES:
                    self._paused = False
                    self.exchange.buffer.resume()
            elif self._finished:
                await self._hand({"type": "http.response.body", "body": b"", "more_body": False})
                return True
            elif self._broken:
                return False
            else:
                self._news = self._loop.create_future()
                await self._news
                self._news = None

    async def _hand(self, message: Message) -> None:
        self._sending = True  # what comes meanwhile queues up behind it
        await self._send(message)
        self._sending = False

    def left(self) -> None:
        """The client is gone: nothing more need be sent."""
        self.exchange.leave()
        self.abort()
