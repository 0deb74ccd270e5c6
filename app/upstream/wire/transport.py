"""The wire as an httpx2 transport: for look-ups, model lists and tests, where speed does not matter."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import httpx2

from app.domain.errors import UpstreamFault, UpstreamTimedOut, UpstreamUnreachable
from app.domain.headers import Headers
from app.upstream.wire.call import WireCall, is_sendable
from app.upstream.wire.pool import Pool, WireTimeouts
from app.upstream.wire.target import Target, joined_queries

_READ_AHEAD_BYTES = 256 * 1024
_OURS = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"proxy-connection", b"upgrade", b"te"))


class WireTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport on a Pool. It serves one origin, sends no HEAD, and has the pool's timeouts."""

    def __init__(self, target: Target, timeouts: WireTimeouts | None = None) -> None:
        self._target = target
        self._pool = Pool(target.origin, timeouts or WireTimeouts())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request and await the head; the body streams. Raises httpx2's exceptions."""
        if not self._reaches(request.url):
            raise httpx2.UnsupportedProtocol(f"this transport only reaches {self._target.authority}", request=request)
        if request.method == "HEAD":  # the parser would wait for the announced body
            raise httpx2.UnsupportedProtocol("this transport sends no HEAD", request=request)
        body = await request.aread()
        head = _head_of(request, len(body), self._target.query)
        answer = _Answer(request)
        call = WireCall(head, body, answer)
        answer.call = call
        self._pool.submit(call)
        try:
            status, headers = await answer.opened
        except BaseException:
            call.cancel()
            raise
        return httpx2.Response(status, headers=headers, stream=answer, request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.close()

    def _reaches(self, url: httpx2.URL) -> bool:
        origin = self._target.origin
        secure = origin.tls is not None
        port = url.port or (443 if secure else 80)
        return (url.scheme, url.host, port) == ("https" if secure else "http", origin.host, origin.port)


def _head_of(request: httpx2.Request, length: int, base_query: bytes) -> bytes:
    path, _, query = request.url.raw_path.partition(b"?")
    query = joined_queries(base_query, query)
    target = path + b"?" + query if query else path
    lines = [b"%s %s HTTP/1.1\r\n" % (request.method.encode(), target)]
    lines += [
        b"%s: %s\r\n" % (name.lower(), value)
        for name, value in request.headers.raw
        if name.lower() not in _OURS and name.lower() != b"content-length"
    ]
    if length or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d\r\n" % length)
    lines.append(b"\r\n")
    head = b"".join(lines)
    if not is_sendable(head, len(lines)) or b" " in request.url.raw_path or " " in request.method:
        raise httpx2.LocalProtocolError("the request cannot be written as HTTP", request=request)
    return head


class _Answer(httpx2.AsyncByteStream):
    """The listener of one call, and its body. Upstream is paused while more than 256 KiB wait."""

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[tuple[int, Headers]] = self._loop.create_future()
        self.call: WireCall | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._over = False
        self._fault: Exception | None = None

    def head(self, status: int, headers: Headers, retry_count: int) -> None:  # noqa: ARG002 - the port's shape
        if not self.opened.done():
            self.opened.set_result((status, headers))

    def data(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes > _READ_AHEAD_BYTES and self.call is not None:
            self.call.pause()
        self._news.set()

    def end(self) -> None:
        self._over = True
        self._news.set()

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:  # noqa: ARG002 - the port's shape
        self._over = True
        self._fault = _as_httpx2(fault, self._request)
        if not self.opened.done():
            self.opened.set_exception(self._fault)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting_bytes -= len(chunk)
                if not self._chunks and self.call is not None:
                    self.call.resume()
                yield chunk
            if self._over:
                break
            self._news.clear()
            await self._news.wait()
        if self._fault is not None:
            raise self._fault

    async def aclose(self) -> None:
        if self.call is not None:
            self.call.cancel()


def _as_httpx2(fault: UpstreamFault, request: httpx2.Request) -> Exception:
    match fault:
        case UpstreamUnreachable():
            return httpx2.ConnectError(fault.message, request=request)
        case UpstreamTimedOut():
            return httpx2.ReadTimeout(fault.message, request=request)
    return httpx2.RemoteProtocolError(fault.message, request=request)
