"""One request and its answer: uvicorn's cycle, with its own way of writing the answer.

    send(start), send(body)*           what any ASGI application awaits
    begin, write*, end                 the same without waiting: the forwarding route uses it while the client keeps up

uvicorn writes a head separately from the body that came with it, and checks every header with two regular expressions.
We write a head and the first bytes of its body in one piece, and check the whole head once.
HTTP/1.0 has no chunks, so there a body of unknown length ends with the connection.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.domain.errors import InternalError
from app.web.errors import error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message
    from uvicorn._types import HTTPScope

    from app.domain.errors import ApiError
    from app.web.connection.limiter import ConnectionLimiter

_log = logging.getLogger("uvicorn.error")
_CONTROL = bytes((*range(9), *range(10, 32), 127))  # all control characters except the tab
_FAILED = "Weighbridge failed on this request. Its log says more."
_BODILESS = (204, 304)


class RequestConnection(Protocol):
    """The connection that a request came on, as its cycle and the forwarding route see it."""

    address: str | None
    on_lost: "Callable[[], None] | None"
    transport: asyncio.Transport
    flow: FlowControl
    limiter: "ConnectionLimiter"

    def answered(self) -> None:
        """To be called when the answer is complete."""


class ResponseCycle(RequestResponseCycle):
    """Reads one request from `connection` and writes its answer there."""

    def __init__(
        self, connection: RequestConnection, scope: "HTTPScope", *, keep_alive: bool, expects_100: bool
    ) -> None:
        super().__init__(
            scope=scope,
            transport=cast("asyncio.Transport", connection),
            flow=connection.flow,
            logger=_log,
            access_logger=_log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=expects_100,
            keep_alive=keep_alive,
            on_response=connection.answered,
        )
        self.connection = connection
        self._http_1_0 = scope["http_version"] == "1.0"
        self.until_close = False  # whether the body ends with the connection
        self._taken = False
        self._silent = scope["method"] == "HEAD"
        self._failed = False
        self._fault: ApiError | None = None

    @property
    def at_once(self) -> bool:
        """Whether begin(), write() and end() may be called: the client reads as fast as we write."""
        return not self.flow.write_paused

    async def send(self, message: "Message") -> None:  # type: ignore[override]
        """Send an ASGI message."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if message["type"] == "http.response.start":
            self.begin(message["status"], [(name, value) for name, value in message.get("headers", ())])
        elif message["type"] == "http.response.body":
            self.write(message.get("body", b""))
            if not message.get("more_body", False):
                self.end()
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    async def receive(self) -> "Message":  # type: ignore[override]
        """Receive an ASGI message, without waiting if the whole request is there. Raises ApiError for a broken one."""
        if self.more_body or self._taken or self.disconnected or self.waiting_for_100_continue:
            await self._wait()
        if self._fault is not None:
            self._raise_fault()
        if self.disconnected or self.response_complete or self._failed:
            return {"type": "http.disconnect"}
        self._taken = not self.more_body
        self.message_event.clear()
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def _wait(self) -> None:
        """Wait for more of the body, or for the end of the answer or of the connection."""
        if self._failed:
            return
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body:
                self.flow.resume_reading()
            await self.message_event.wait()

    async def send_500_response(self) -> None:
        """Answer with our own error when the application failed before its answer began."""
        error, limiter = InternalError(_FAILED), self.connection.limiter
        limiter.refused(error, self.connection.address, f"{self.scope['method']} {self.scope['path']}")
        status, headers, body = error_answer(error, limiter.new_id())
        self.begin(status, [*headers, (b"connection", b"close")], body)
        self.end()

    def fail(self, error: "ApiError") -> None:
        """Stop waiting for the rest of a broken request. receive() raises; the connection ends with the answer."""
        self.keep_alive = False
        if self.response_started:
            self.transport.close()
        else:
            self._fault = error
            self._failed = True
            self.message_event.set()

    def _raise_fault(self) -> NoReturn:
        """Raise the fault once, and drop it: its traceback refers to this object."""
        fault, self._fault = cast("ApiError", self._fault), None
        try:
            raise fault.with_traceback(None)
        finally:
            del fault

    def begin(self, status: int, headers: "Sequence[tuple[bytes, bytes]]", body: bytes = b"") -> None:
        """Write the head and the first bytes of the body. Header names are in lower case.

        Raises RuntimeError for headers that cannot be written as HTTP, and when the answer has begun already.
        """
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("the answer has begun already")
        data = self._head(status, headers)
        if body:
            data += self._framed(body)
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(data)

    def write(self, body: bytes) -> None:
        """Write bytes of the body. Raises RuntimeError when the body is longer than its head says."""
        if self.disconnected:
            return
        if not self.response_started or self.response_complete:
            raise RuntimeError("there is no answer under way")
        if self.chunked_encoding and body and not self._silent:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        elif body:
            self.transport.write(self._framed(body))

    def end(self) -> None:
        """End the answer. Raises RuntimeError when the body is shorter than its head says."""
        if self.disconnected:
            return
        if self.chunked_encoding:
            if not self._silent:
                self.transport.write(b"0\r\n\r\n")
        elif self.expected_content_length and not self._silent:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, status: int, headers: "Sequence[tuple[bytes, bytes]]") -> bytes:
        values = dict(headers)
        if b"transfer-encoding" in values:  # we frame the body anew
            headers = [header for header in headers if header[0] != b"transfer-encoding"]
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in headers]]
        length = values.get(b"content-length")
        if length is not None:
            self.chunked_encoding = False
            self.expected_content_length = int(length)
        closes = b"connection" in values and any(
            name == b"connection" and b"close" in value.lower() for name, value in headers
        )
        if self.chunked_encoding is None and status not in _BODILESS:
            if self._http_1_0:
                self.until_close = True
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if len(head) - len(head.translate(None, _CONTROL)) != 2 * len(lines):  # only the line ends have any, two each
            raise RuntimeError("the answer's headers cannot be written as HTTP")
        return head + b"\r\n"

    def _framed(self, body: bytes) -> bytes:
        if self._silent:
            return b""
        if self.chunked_encoding:
            return b"%x\r\n%b\r\n" % (len(body), body)
        if not self.until_close:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its Content-Length")
        return body


def refusal(error: "ApiError", request_id: str) -> bytes:
    """The whole answer to a request that never reaches the application."""
    status, headers, body = error_answer(error, request_id)
    lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"connection: close\r\n\r\n", body]
    return b"".join(lines)
