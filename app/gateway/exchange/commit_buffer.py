"""Keeps the chunk that shows the answer's end, and what follows, until the commit. It also paces upstream."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.gateway.ports import UpstreamCall

ENOUGH_BYTES = 256 * 1024
"""While the buffer has more, upstream is not read."""


class CommitBuffer:
    """Chunks in order. The upstream `call` is paused while the buffer is full and while the client is slow."""

    __slots__ = ("_chunks", "_client_slow", "call", "size")

    def __init__(self) -> None:
        self.call: UpstreamCall | None = None
        self.size = 0
        self._chunks: list[bytes] = []
        self._client_slow = False

    def add(self, chunk: bytes) -> None:
        """Add a chunk."""
        self._chunks.append(chunk)
        self.size += len(chunk)
        if self.size > ENOUGH_BYTES:
            self._throttle()

    def release(self) -> bytes:
        """Empty the buffer; returns its bytes in one piece."""
        chunks, size = self._chunks, self.size
        self._chunks, self.size = [], 0
        if size > ENOUGH_BYTES:
            self._throttle()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def pause(self) -> None:
        """Stop reading from upstream until the client catches up."""
        self._client_slow = True
        self._throttle()

    def resume(self) -> None:
        """Read on from upstream, since the client has caught up."""
        self._client_slow = False
        self._throttle()

    def _throttle(self) -> None:
        if self.call is not None:
            (self.call.pause if self._client_slow or self.size > ENOUGH_BYTES else self.call.resume)()
