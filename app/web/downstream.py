"""The ASGI side of an exchange: takes bytes pushed by the gateway, awaits the server's send.

    gateway: start, body*, finish | abort | refuse ──> queue ──> run(): await send(...)  (one task, the server's own)

Everything that has come while a send was awaited goes out in one piece, so a slow client gets fewer, larger pieces and
a quick one gets each as it came. When more than HIGH_WATER bytes wait, the exchange stops reading from upstream.
"""

import asyncio
from typing import TYPE_CHECKING

from starlette.types import Send

from app.domain.errors import ApiError
from app.gateway.ports import Headers
from app.web.errors import error_answer

if TYPE_CHECKING:
    from app.gateway.relay import Exchange

HIGH_WATER_BYTES = 64 * 1024


class AsgiDownstream:
    """Implements the gateway's Downstream for one ASGI request."""

    __slots__ = (
        "_broken",
        "_exchange",
        "_finished",
        "_head",
        "_loop",
        "_news",
        "_parts",
        "_paused",
        "_request_id",
        "_size",
        "request_read",
    )

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._news: asyncio.Future[None] | None = None
        self._head: tuple[int, Headers] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._finished = False
        self._broken = False
        self.request_read = False

    # -- the gateway's side ------------------------------------------------------------------------------------

    def start(self, status: int, headers: Headers) -> None:
        """Send status and headers: in the loop's next turn, since what came with them may have to wait for a commit."""
        self._head = (status, headers)
        self._loop.call_soon(self._announce)

    def body(self, chunk: bytes) -> None:
        """Send bytes."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER_BYTES and not self._paused and self._exchange is not None:
            self._paused = True
            self._exchange.pause()
        self._wake()

    def finish(self) -> None:
        """End properly."""
        self._finished = True
        self._wake()

    def abort(self) -> None:
        """End without a proper end: run() returns early, and the server drops the connection."""
        self._broken = True
        self._wake()

    def refuse(self, error: ApiError) -> None:
        """Answer with an error of ours; if the request was not read to its end, the connection ends with it."""
        status, headers, body = error_answer(error, self._request_id)
        self._head = (status, headers if self.request_read else [*headers, (b"connection", b"close")])
        self._parts.append(body)
        self._finished = True
        self._wake()

    def _announce(self) -> None:
        if self._exchange is None or not self._exchange.committing:
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # -- the server's side -------------------------------------------------------------------------------------

    def left(self, exchange: "Exchange") -> None:
        """The client is gone: nothing more need be sent."""
        exchange.leave()
        self.abort()

    async def run(self, exchange: "Exchange", send: Send) -> bool:
        """Send until the end. False when the answer was broken off (the caller must not complete it)."""
        self._exchange = exchange
        while True:
            if self._head is not None:
                (status, headers), self._head = self._head, None
                await send({"type": "http.response.start", "status": status, "headers": headers})
            elif self._parts:
                parts, self._parts = self._parts, []
                self._size = 0
                last = self._finished
                chunk = parts[0] if len(parts) == 1 else b"".join(parts)
                await send({"type": "http.response.body", "body": chunk, "more_body": not last})
                if last:
                    return True
                if self._paused and self._size <= HIGH_WATER_BYTES:
                    self._paused = False
                    exchange.resume()
            elif self._finished:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return True
            elif self._broken:
                return False
            else:
                self._news = self._loop.create_future()
                await self._news
                self._news = None
