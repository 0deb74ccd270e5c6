"""One HTTP/1.1 connection to upstream, and the one call that it may be carrying.

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

A connection is given to the next call only when the last answer was framed by a length or by chunks, ended exactly at
the last byte received, and both sides wish to keep it: what a pool hands on by mistake, another tenant reads
(threats.md 0.1). Everything here runs in callbacks on the loop; nothing awaits, so nothing can be cancelled halfway.
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
    """A socket to upstream. `on_idle` hears of each clean end, `on_lost` of the connection's death, once."""

    def __init__(self, on_idle: "OnIdle", on_lost: "OnLost") -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of the body, out of this read; what the parser finds goes straight in
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._unread = select.poll()
        self._paused = False
        self.call: WireCall | None = None
        self.reused = False
        self.since = 0.0  # monotonic: of the last byte, of the request when none came
        self.usable_until = 0.0  # monotonic, while idle
        self.repeat_seconds, self._idle_seconds = 0.0, framing.IDLE_SECONDS  # of the first see ended_before_call
        self._asked_at = self._ended_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self.heard = False  # has any byte of this answer come?
        self.answering = False  # is the head through?
        self._bodiless_bytes = 0  # of reads since the last byte of the body
        self._status = 0
        self._headers: Headers = []
        self._interim = False
        self._headed = False  # has the parser seen the whole head, and was there nothing wrong with it?
        self._keep_alive = False
        self._framed = False
        self._chunked = False
        self._whole = False
        self._surplus = False
        self._own_parts = 0  # what comes behind a whole answer is not of it
        self._parts.clear()

    # -- what the pool does ------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Is the socket open?"""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Open, and nothing to read? What came unasked may wait in the kernel while the loop has not looked yet.

        Without that look those bytes would be the next caller's answer. It takes 0.5 us, measured.
        """
        transport = self._transport
        return not (transport is None or self._ended_at or transport.is_closing() or self._unread.poll(0))

    @property
    def ended_before_call(self) -> bool:
        """Had upstream ended this connection before it could have the call? Only then may the call be sent again.

        The end of a reused connection was on its way already if it came within one round trip after the request was
        sent. The time that connecting took is one round trip. An end that comes later may be an answer to the request:
        whoever sends it again may pay twice.
        """
        return self.reused and not self.heard and self._ended_at - self._asked_at <= self.repeat_seconds

    @property
    def all_written(self) -> bool:
        """Has the kernel taken all that was to be sent? TLS hides up to 64 KiB in the transport below."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    def carry(self, call: "WireCall") -> None:
        """Send the call's request. Only on an idle, usable connection."""
        transport = cast("asyncio.Transport", self._transport)
        self.call = call
        call.connection = self
        self.since = self._asked_at = time.monotonic()
        head, body = call.head, call.body
        if len(body) <= _JOINED_WRITE_BYTES:
            transport.write(head + body)
        else:  # both leave in one turn of the loop; a join would copy megabytes
            transport.write(head)
            transport.write(body)
        if not self.reused or not self.repeat_seconds:
            call.forget_request()
        if call.paused:
            self.pause()

    def close(self) -> None:
        """Drop the socket at once; a call being carried hears nothing more."""
        self.call = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        if not self._paused and self.usable:
            self._paused = True
            cast("asyncio.Transport", self._transport).pause_reading()

    def resume(self) -> None:
        """Read on. Silence is counted from now."""
        if self._paused:
            self._paused = False
            self.since = time.monotonic()
            if self.usable:
                cast("asyncio.Transport", self._transport).resume_reading()

    @property
    def waiting(self) -> bool:
        """Is it upstream's turn? While we do not read, silence is our own."""
        return self.call is not None and not self._paused

    def fail(self, fault: UpstreamFault) -> None:
        """End the call with `fault` and drop the socket."""
        call, self.call = self.call, None
        if call is not None:
            call.broken(fault)
        if self._transport is not None:
            self._transport.abort()

    # -- what the socket does ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open (and its TLS handshake done)."""
        self._transport = cast("asyncio.Transport", transport)
        self._unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def eof_received(self) -> None:
        """Upstream will say no more. What of a request is still unsent would keep the socket open: drop that, too."""
        self._ended_at = time.monotonic()
        if self._transport is not None:
            asyncio.get_running_loop().call_soon(self._transport.abort)  # soon: TLS is still busy with this very end

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: a proper end only for a body that has no other end than this."""
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
        """Parse what came and hand it over in one piece."""
        if self.call is None:  # an unasked byte: whatever it is, it is not for the next caller
            self.close()
            return
        self.heard = True
        if self.answering:  # a head that dribbles in does not buy time
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
        if fault is not None:  # what came before the damage went through: a byte that arrived is a byte that counts
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
        """The answer is whole. Only a socket with nothing left over, either way, may carry another call."""
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

    # -- what httptools says, while feed_data runs ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message after a whole one is surplus; after an interim one it is the answer."""
        if self._whole:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the head's headers; trailers are dropped."""
        if not self._headed:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is in: find out how its body ends and whether the connection stays."""
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
        """The end of an interim answer, or of the real one."""
        if self._interim:
            self._interim = False
            self._headers = []
        elif not self._whole:
            self._whole = True
            self._own_parts = len(self._parts)
