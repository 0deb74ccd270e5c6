"""Closes a connection whose client is still sending.

The kernel resets a socket that is closed with unread bytes, and the client then loses the answer. So we end our side
first, and for a while read and drop what the client still sends.
"""

import asyncio

LINGER_SECONDS = 30.0
LINGER_BRIEFLY_SECONDS = 1.0
SILENCE_SECONDS = 5.0
MAX_DISCARDED_BYTES = 256 * 1024 * 1024


class LingeringClose:
    """Ends when the client closes, after `seconds`, after SILENCE_SECONDS without a byte, or at too many bytes."""

    __slots__ = ("_discarded", "_ends", "_last", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float, seconds: float) -> None:
        self._transport = transport
        self._discarded = 0
        self._last = now
        self._ends = now + seconds
        if not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def discard(self, size: int, now: float) -> None:
        """Count bytes that came and were dropped."""
        self._discarded += size
        self._last = now
        if self._discarded > MAX_DISCARDED_BYTES:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Close the connection if its time is up."""
        silent = now - self._last > SILENCE_SECONDS and not self._transport.get_write_buffer_size()
        if silent or now > self._ends:
            self._transport.abort()
