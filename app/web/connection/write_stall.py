"""Drops a client that has stopped reading."""

import asyncio


class WriteStall:
    """Begins when the transport's buffer is full. Every byte that leaves the buffer counts as progress."""

    __slots__ = ("_since", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self._since = now
        self._waiting = transport.get_write_buffer_size()

    def check(self, now: float, seconds: float) -> None:
        """Drop the connection if nothing has left for `seconds`."""
        waiting = self._transport.get_write_buffer_size()
        if waiting != self._waiting:
            self._since, self._waiting = now, waiting
        elif now - self._since > seconds:
            self._transport.abort()
