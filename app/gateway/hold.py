"""What waits for the commit: the chunk that shows the answer's end, and what came behind it."""

ENOUGH_BYTES = 256 * 1024
"""When more is held, upstream is not read on."""


class Hold:
    """Chunks in order."""

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Hold one more."""
        self._chunks.append(chunk)
        self.size += len(chunk)

    def release(self) -> bytes:
        """Everything, in one piece; nothing is held any more."""
        chunks, self._chunks, self.size = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
