"""A call on its way to upstream: what is sent, who listens, and where it is now."""

from typing import TYPE_CHECKING

from app.domain.errors import UpstreamFault, UpstreamUnreachable
from app.domain.headers import Headers
from app.gateway.ports import UpstreamListener

if TYPE_CHECKING:
    import asyncio

    from app.upstream.wire.connection import UpstreamConnection


def is_sendable(head: bytes, lines: int) -> bool:
    """Has this request head exactly so many lines? A stray line end in a value would forge a header, or a request.

    Nothing that came through an HTTP parser can fail here: this is the second lock on that door (0.4 us, measured).
    """
    return head.count(b"\n") == lines == head.count(b"\r")


class WireCall:
    """Implements the gateway's UpstreamCall. First it is connecting (has a task), then it is on a connection."""

    __slots__ = (
        "body",
        "connecting",
        "connection",
        "head",
        "hold",
        "listener",
        "over",
        "paused",
        "retry_count",
        "written",
    )

    def __init__(self, head: bytes, body: bytes, listener: UpstreamListener, hold: object = None) -> None:
        self.head = head  # request line and headers with the blank line
        self.body = body
        self.hold = hold  # on the memory of a large body
        self.listener = listener
        self.connecting: asyncio.Task[None] | None = None
        self.connection: UpstreamConnection | None = None
        self.retry_count = 0
        self.paused = False
        self.over = False
        self.written = False  # was the whole request handed to the kernel? As the connection left it

    @property
    def sent(self) -> bool:
        """Was the whole request handed to the kernel? It stays so when the call is over."""
        return self.written or (self.connection is not None and self.connection.all_written)

    def cancel(self) -> None:
        """Close upstream's connection at once, at whatever stage; the listener hears nothing more."""
        if self.over:
            return
        self.written = self.sent
        self.over = True
        self.forget_request()
        if self.connecting is not None:
            self.connecting.cancel()
        connection, self.connection = self.connection, None
        if connection is not None and connection.call is self:
            connection.close()

    def pause(self) -> None:
        """Stop reading until resume()."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if self.connection is not None:
            self.connection.resume()

    # -- the connection's side ---------------------------------------------------------------------------------

    def answered(self, status: int, headers: Headers) -> None:
        """The answer's head is here."""
        self.forget_request()
        self.listener.head(status, headers, self.retry_count)

    def ended(self) -> None:
        """The answer is whole."""
        if not self.over:
            self.over = self.written = True
            self.connection = None
            self.listener.end()

    def broken(self, fault: UpstreamFault) -> None:
        """There will be no (further) answer."""
        if not self.over:
            self.over = True
            self.written = self.sent and not isinstance(fault, UpstreamUnreachable)  # that was a fresh attempt
            self.connection = None
            self.forget_request()
            self.listener.broken(fault, self.retry_count)

    def forget_request(self) -> None:
        """The call cannot be sent again: what was sent is no longer needed. What was not is in memory still."""
        self.head = self.body = b""
        if self.connection is None or self.connection.all_written:
            self.hold = None
