"""The wire: the gateway's Upstream port on our own HTTP/1.1 connections.

Only this file puts the key into request heads. The headers have passed `app.domain.headers`, so they hold no client's
credential.
"""

from typing import TYPE_CHECKING

from app.domain.errors import UpstreamUnreachable
from app.upstream.wire.call import WireCall, is_sendable
from app.upstream.wire.pool import Pool, WireTimeouts
from app.upstream.wire.target import Target, joined_queries

if TYPE_CHECKING:
    from app.gateway.ports import UpstreamListener, UpstreamRequest


class UpstreamWire:
    """One upstream with its key. Make it on the loop that uses it."""

    def __init__(self, name: str, target: Target, key: str, timeouts: WireTimeouts) -> None:
        self.name = name  # as in the ledger
        self._prefix = target.prefix
        self._query = target.query
        self._pool = Pool(target.origin, timeouts)
        self._fixed = (
            f" HTTP/1.1\r\nhost: {target.authority}\r\nauthorization: Bearer {key}\r\naccept-encoding: identity\r\n"
        ).encode("ascii")

    def __repr__(self) -> str:
        return f"UpstreamWire({self.name!r})"

    def open(self, request: "UpstreamRequest", listener: "UpstreamListener") -> WireCall:
        """Send the call, or refuse it if it cannot be written as HTTP."""
        head, lines = self._head(request)
        call = WireCall(head, request.body, listener, request.hold)
        spaced = " " in request.path or " " in request.method or b" " in request.query
        if is_sendable(head, lines) and not spaced:
            self._pool.submit(call)
        else:
            self._pool.refuse(call, UpstreamUnreachable("The request cannot be written as HTTP; nothing was sent."))
        return call

    def connections(self) -> dict[str, int]:
        """Connections by state: idle, busy, opening."""
        return self._pool.counts()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    def _head(self, request: "UpstreamRequest") -> tuple[bytes, int]:
        """The head, and how many lines it must have, including the empty one."""
        parts = [f"{request.method} {self._prefix}{request.path}".encode("utf-8", "surrogatepass"), self._fixed]
        if self._query or request.query:
            parts.insert(1, b"?" + joined_queries(self._query, request.query))
        lines = 5 + len(request.headers)
        for name, value in request.headers:
            parts += (name, b": ", value, b"\r\n")
        if request.body or request.method == "POST":
            parts.append(b"content-length: %d\r\n" % len(request.body))
            lines += 1
        parts.append(b"\r\n")
        return b"".join(parts), lines
