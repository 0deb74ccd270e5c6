"""Responses that no HTTP server would send."""

import http
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.mock.faults import FaultSet
from app.mock.headers import Headers
from app.mock.wire import MockWire, left

GARBAGE = b"\x16\x03\x01\x00\x05this is not HTTP\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </mock.css>; rel=preload\r\n\r\n"
SURPLUS_BODY = b'{"surplus":true}'
SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(SURPLUS_BODY),
    SURPLUS_BODY,
)


class Act(Response):
    """Does something to the connection instead of answering, and waits until the caller is gone."""

    def __init__(self, act: Callable[[MockWire], None]) -> None:
        super().__init__()
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """As ASGI."""
        self._act(MockWire(scope))
        await left(receive)


class Lie(Response):
    """A whole answer under a Content-Length that is not its own, then the end of the connection."""

    def __init__(self, body: bytes, said_length: int, headers: Headers) -> None:
        super().__init__(body)
        self._said_length = said_length
        self._said_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """As ASGI, but written past the server, which would not have it."""
        lines = [f"HTTP/1.1 {self.status_code} {http.HTTPStatus(self.status_code).phrase}".encode()]
        lines += [name + b": " + value for name, value in self._said_headers]
        lines += [b"content-length: %d" % self._said_length, b"", bytes(self.body)]
        wire = MockWire(scope)
        wire.write(b"\r\n".join(lines))
        wire.close()
        await left(receive)


class Flanked(Response):
    """An ordinary response with raw bytes before and after it."""

    def __init__(self, inner: Response, *, before: bytes = b"", after: bytes = b"") -> None:
        super().__init__()
        self._inner = inner
        self._before = before
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        wire = MockWire(scope)
        if self._before:
            wire.write(self._before)
        await self._inner(scope, receive, send)
        if self._after and not wire.gone:
            wire.write(self._after)


def instead(faults: FaultSet) -> Act | None:
    """What is done to the connection instead of an answer, if anything."""
    if "garbage" in faults:
        return Act(_garble)
    for name, act in (("close", MockWire.close), ("reset", MockWire.reset)):
        fault = faults.get(name)
        if fault is not None and fault.event == 0:
            return Act(act)
    return None


def _garble(wire: MockWire) -> None:
    wire.write(GARBAGE)
    wire.close()


def flanked(response: Response, faults: FaultSet) -> Response:
    """The response with what the faults put around it."""
    before = EARLY_HINTS if "informational" in faults else b""
    after = SURPLUS if "surplus" in faults else b""
    return Flanked(response, before=before, after=after) if before or after else response
