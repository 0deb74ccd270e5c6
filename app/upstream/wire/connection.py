"""One HTTP/1.1 connection to upstream, and the call that it may carry.

                 carry(call)               head complete              message complete
    idle ─────────────────────> asked ─────────────────────> answering ──────────────┐
     ^                            │                              │                   │
     │                            │ ended_before_call            │ death, timeout,   │
     │                            ├──────> pool: once more,      │ not HTTP          │
     │                            │        on a fresh one        v                   │
     │                            └──────────────────────────> broken                │
     │        whole, keep-alive, not one byte over                                   │
     └───────────────────────────────────────────────────────────────────────────────┤
                                  closed <── anything else: surplus bytes, an unasked byte while idle,
                                             `Connection: close`, body up to end of file, cancel

A connection carries another call only if the last answer was framed by a length or by chunks and ended exactly at the
last byte received, and both sides keep the connection. Otherwise one client could read another's answer. Everything
here runs in callbacks on the loop; nothing awaits, so nothing can be cancelled halfway.
"""

import asyncio
import select
import time
from typing import TYPE_CHECKING, cast

import httptools

from app.domain.errors import UpstreamFault, UpstreamProtocolError, UpstreamRedirected
from app.upstream.wire import framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.headers import Headers
    from app.upstream.wire.call import WireCall

    OnIdle = Callable[["UpstreamConnection"], None]
    OnLost = Callable[["UpstreamConnection", WireCall | None], None]

_JOINED_WRITE_BYTES = 16 * 1024


class UpstreamConnection(asyncio.Protocol):
    """A socket to upstream. `on_idle` is called at each clean end, `on_lost` once when the connection is lost."""

    def __init__(self, on_idle: "OnIdle", on_lost: "OnLost") -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of the body, from this read; the parser appends to it
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._unread = select.poll()
        self._paused = False
        self.call: WireCall | None = None
        self.reused = False
        self.since = 0.0  # monotonic: the time of the last byte, or of the request before any came
        self.usable_until = 0.0  # monotonic, while idle
        self.repeat_seconds, self._idle_seconds = 0.0, framing.IDLE_SECONDS  # the first is for ended_before_call
        self._asked_at = self._ended_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self.heard = False  # a byte of this answer has come
        self.answering = False  # the head was passed on
        self._bodiless_bytes = 0  # read since the last byte of the body
        self._status = 0
        self._headers: Headers = []
        self._interim = False
        self._headed = False  # the parser has read the whole head, without a fault
        self._keep_alive = False
        self._framed = False
        self._chunked = False
        self._whole = False
        self._surplus = False
        self._own_parts = 0  # the parts of this answer; later ones are surplus
        self._parts.clear()

    # -- called by the pool ------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the socket is open."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the socket is open and has nothing to read: unasked bytes would become the next call's answer.

        Looking costs 0.5 us, measured.
        """
        transport = self._transport
        return not (transport is None or self._ended_at or transport.is_closing() or self._unread.poll(0))

    @property
    def ended_before_call(self) -> bool:
        """Whether upstream ended this connection before it got the call: only then may the call be sent again.

        The end of a reused connection was already on its way if it came within one round trip after the request was
        sent; connecting took one round trip. A later end may be a reaction to the request, and sending it again may
        cost twice.
        """
        return self.reused and not self.heard and self._ended_at - self._asked_at <= self.repeat_seconds

    @property
    def all_written(self) -> bool:
        """Whether the kernel has taken all bytes. TLS hides up to 64 KiB in the transport below."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    def carry(self, call: "WireCall") -> None:
        """Send the call's request. The connection must be idle and usable."""
        transport = cast("asyncio.Transport", self._transport)
        self.call = call
        call.connection = self
        self.since = self._asked_at = time.monotonic()
        head, body = call.head, call.body
        if len(body) <= _JOINED_WRITE_BYTES:
            transport.write(head + body)
        else:  # joining them would copy megabytes
            transport.write(head)
            transport.write(body)
        if not self.reused or not self.repeat_seconds:
            call.forget_request()
        if call.paused:
            self.pause()

    def close(self) -> None:
        """Close the socket at once. Its call is not notified."""
        self.call = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading until the client catches up."""
        if not self._paused and self.usable:
            self._paused = True
            cast("asyncio.Transport", self._transport).pause_reading()

    def resume(self) -> None:
        """Read on. The idle time counts from now."""
        if self._paused:
            self._paused = False
            self.since = time.monotonic()
            if self.usable:
                cast("asyncio.Transport", self._transport).resume_reading()

    @property
    def waiting(self) -> bool:
        """Whether upstream must send next. Time does not count while reading is paused."""
        return self.call is not None and not self._paused

    def fail(self, fault: UpstreamFault) -> None:
        """End the call with `fault` and close the socket."""
        call, self.call = self.call, None
        if call is not None:
            call.broken(fault)
        if self._transport is not None:
            self._transport.abort()

    # -- called by the socket ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open, and the TLS handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def eof_received(self) -> None:
        """Upstream will send no more. Abort, since unsent bytes of a request would keep the socket open."""
        self._ended_at = time.monotonic()
        if self._transport is not None:
            asyncio.get_running_loop().call_soon(self._transport.abort)  # not now: TLS is still handling the end

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed. That is a proper end only for a body without length and chunks."""
        call = self.call
        if call is not None:
            call.written = self.all_written
        self._transport = None
        self._ended_at = self._ended_at or time.monotonic()
        if call is not None and self.answering and not self._framed and exc is None:
            self.call = None
            self._on_lost(self, None)
            call.ended()
            return
        self.call = None
        self._on_lost(self, call)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes and pass the body's on in one piece."""
        if self.call is None:  # unasked bytes must not reach the next call
            self.close()
            return
        self.heard = True
        if self.answering:  # a slow head gets no more time
            self.since = time.monotonic()
        self._bodiless_bytes += len(data)
        fault: UpstreamFault | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._whole:
                self._surplus = True
            else:
                fault = framing.fault_of(error)
        self._hand_over(data)
        if fault is not None:  # the bytes before the fault were passed on
            self.fail(fault)

    def _hand_over(self, data: bytes) -> None:
        call = self.call
        if call is None:
            return
        answered_before = self.answering
        if not answered_before and self._headed:
            self.answering = True
            self.since = time.monotonic()
            call.answered(self._status, self._headers)
            if self.call is not call:
                return
        body_bytes = 0
        if self._surplus:
            del self._parts[self._own_parts :]
        if self._parts:
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            body_bytes = len(body)
            self._bodiless_bytes = 0
            call.listener.data(body)
        elif self._bodiless_bytes > framing.MAX_HEAD_BYTES and not self._whole:
            self.fail(UpstreamProtocolError(framing.HEAD_TOO_LARGE))
            return
        if self._whole and self.call is call:
            exactly = framing.ends_exactly(data, body_bytes, chunked=self._chunked, answered_before=answered_before)
            self._end(call, exact=exactly and not self._surplus)

    def _end(self, call: "WireCall", *, exact: bool) -> None:
        """The answer is whole. Only a socket without surplus or unsent bytes may carry another call."""
        self.call = None
        transport = cast("asyncio.Transport", self._transport)
        if exact and self._keep_alive and not transport.is_closing() and not transport.get_write_buffer_size():
            self.resume()
            self.reused = True
            self.usable_until = time.monotonic() + self._idle_seconds
            self._begin()
            self._on_idle(self)
        else:
            transport.abort()
        call.ended()

    # -- called by httptools, while feed_data runs ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message after a whole one is surplus; after an interim one it is the answer."""
        if self._whole:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the head's headers; trailers are dropped."""
        if not self._headed:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: find out how the body ends and whether the connection stays open."""
        if self._whole:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._take_interim()
            return
        if self._bodiless_bytes > framing.SMALL_HEAD_BYTES and framing.too_large(self._headers, self._bodiless_bytes):
            raise UpstreamProtocolError(framing.HEAD_TOO_LARGE)
        sized = False
        for name, value in self._headers:
            if name == b"content-length":
                sized = True
            elif name == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked":
                    raise UpstreamProtocolError("Upstream uses a transfer coding other than chunked.")
                self._chunked = True
            elif name == b"keep-alive":
                self._idle_seconds = framing.idle_seconds(value)
        self._framed = sized or self._chunked or self._status in (204, 304)
        # llhttp's answer is right only inside this callback
        self._keep_alive = self._framed and self._parser.should_keep_alive()
        self._headed = True

    def _take_interim(self) -> None:
        self._interim = True
        if self._status == 101:
            raise UpstreamRedirected("Upstream tried to switch protocols.")
        if self._status < 100:
            raise UpstreamProtocolError(framing.NOT_HTTP)

    def on_message_complete(self) -> None:
        """The end of an interim answer, or of the final one."""
        if self._interim:
            self._interim = False
            self._headers = []
        elif not self._whole:
            self._whole = True
            self._own_parts = len(self._parts)
