"""One HTTP/1.1 connection to upstream, and the one call that it may be carrying.

                 carry(call)               head complete              message complete
    idle ─────────────────────> asked ─────────────────────> answering ──────────────┐
     ^                            │                              │                   │
     │                            │ death, nothing heard,        │ death, timeout,   │
     │                            │ connection was reused        │ not HTTP          │
     │                            ├──────> pool: once more,      │                   │
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
from collections.abc import Callable
from typing import cast

import httptools

from app.domain.errors import UpstreamFault, UpstreamProtocolError, UpstreamRedirected
from app.gateway.ports import Headers
from app.upstream.call import Call

MAX_HEAD_BYTES = 128 * 1024
"""Status line and headers together; real providers send 1-4 KB."""

_HEAD_TOO_LARGE = "Upstream's headers are too large."
_JOINED_WRITE_BYTES = 16 * 1024


class Connection(asyncio.Protocol):
    """A socket to upstream. `on_idle` hears of each clean end, `on_lost` of the connection's death, once."""

    def __init__(
        self, on_idle: "Callable[[Connection], None]", on_lost: "Callable[[Connection, Call | None], None]"
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._paused = False
        self.call: Call | None = None
        self.reused = False
        self.since = 0.0  # loop time: of the last byte, of the request when none came, of the last end while idle
        self._begin()

    def _begin(self) -> None:
        self.heard = False  # has any byte of this answer come?
        self.answering = False  # is the head through?
        self._head_bytes = 0  # of everything until the head is complete
        self._header_bytes = 0  # of names and values
        self._status = 0
        self._headers: Headers = []
        self._interim = False
        self._keep_alive = False
        self._framed = False
        self._chunked = False
        self._whole = False
        self._surplus = False
        self._parts: list[bytes] = []

    # -- what the pool does ------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Could carry a call now."""
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, call: Call) -> None:
        """Send the call's request. Only on an idle, usable connection."""
        assert self._transport is not None
        self.call = call
        call.connection = self
        self.since = self._loop.time()
        head, body = call.head, call.body
        if len(body) <= _JOINED_WRITE_BYTES:
            self._transport.write(head + body)
        else:  # both leave in one turn of the loop; a join would copy megabytes
            self._transport.write(head)
            self._transport.write(body)
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
            self.since = self._loop.time()
            if self.usable:
                cast("asyncio.Transport", self._transport).resume_reading()

    @property
    def waiting(self) -> bool:
        """Is it upstream's turn? (While we do not read, silence is our own.)"""
        return self.call is not None and not self._paused

    def fail(self, fault: UpstreamFault) -> None:
        """End the call with `fault` and drop the socket."""
        call, self.call = self.call, None
        if self._transport is not None:
            self._transport.abort()
        if call is not None:
            call.broken(fault)

    # -- what the socket does ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open (and its TLS handshake done)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: a proper end only for a body that has no other end than this."""
        self._transport = None
        call = self.call
        if call is not None and self.answering and not self._framed and exc is None and not self._interim:
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
        if self.answering:
            self.since = self._loop.time()
        else:  # a head that dribbles in does not buy time
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamRedirected("Upstream tried to switch protocols."))
            return
        except httptools.HttpParserError as error:
            if not self._whole:
                self._not_http(error)
                return
            self._surplus = True
        self._hand_over(data)

    def _not_http(self, error: httptools.HttpParserError) -> None:
        """What came before the damage still goes through: a byte that arrived is a byte that counts."""
        cause = error.__context__
        fault = cause if isinstance(cause, UpstreamFault) else UpstreamProtocolError("Upstream's answer is not HTTP.")
        if self.answering and self._parts and self.call is not None:
            self.call.listener.data(b"".join(self._parts))
        self.fail(fault)

    def _hand_over(self, data: bytes) -> None:
        call = self.call
        if call is None:
            return
        if not self.answering:
            if not self._status or self._interim:
                if self._head_bytes > MAX_HEAD_BYTES:
                    self.fail(UpstreamProtocolError(_HEAD_TOO_LARGE))
                return
            self.answering = True
            self.since = self._loop.time()
            call.answered(self._status, self._headers)
        last = b""
        if self._parts and self.call is call:
            parts, self._parts = self._parts, []
            last = parts[-1]
            call.listener.data(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._whole and self.call is call:
            self._end(call, exact=self._ends_exactly(data, last))

    def _ends_exactly(self, data: bytes, last: bytes) -> bool:
        """Did the answer end with the last byte that came? (llhttp skips surplus line ends without a word.)"""
        if self._surplus:
            return False
        if self._chunked:
            return data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n"
        return data.endswith(last or b"\r\n\r\n")

    def _end(self, call: Call, *, exact: bool) -> None:
        """The answer is whole. Only a socket with nothing left over may carry another call."""
        self.call = None
        if exact and self._keep_alive and self.usable:
            if self._paused:
                self.resume()
            self.reused = True
            self.since = self._loop.time()
            self._begin()
            self._on_idle(self)
        elif self._transport is not None:
            self._transport.abort()
        call.ended()

    # -- what httptools says, while feed_data runs ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message after a whole one is surplus; after an interim one it is the answer."""
        if self._whole:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the head's headers; trailers are dropped."""
        if self.answering or self._framed or self._whole:
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES:
            raise UpstreamProtocolError(_HEAD_TOO_LARGE)
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is in: find out how its body ends and whether the connection stays."""
        if self._whole:
            return
        self._status = self._parser.get_status_code()
        self._interim = 100 <= self._status < 200
        if self._interim:
            if self._status == 101:
                raise UpstreamRedirected("Upstream tried to switch protocols.")
            return
        codings = [value.lower() for name, value in self._headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            raise UpstreamProtocolError("Upstream uses a transfer coding other than chunked.")
        self._chunked = bool(codings)
        sized = self._chunked or any(name == b"content-length" for name, _ in self._headers)
        self._framed = sized or self._status in (204, 304)
        # llhttp's answer is right only inside this callback
        self._keep_alive = self._framed and self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Collect what this read brought."""
        if self._whole:
            self._surplus = True
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The end of an interim answer, or of the real one."""
        if self._interim:
            self._interim = False
            self._status = 0
            self._headers = []
        else:
            self._whole = True
