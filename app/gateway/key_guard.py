"""Looks for the upstream key in what goes to clients: the one thing for which an answer is broken off (promise P1).

With find(), not `in`: CPython asks first whether what it looks for is a number, and that costs more than the search.
"""

SHORTEST_SECRET = 12
"""Shorter keys are placeholders of local servers ("ollama", "lm-studio") and stand in ordinary text."""


class KeyGuard:
    """Knows the key and shows it nowhere. One per upstream; `watch()` gives the state for one answer."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key.encode("ascii") if len(key) >= SHORTEST_SECRET else b""

    def __repr__(self) -> str:
        return "KeyGuard()"

    def found_in(self, data: bytes) -> bool:
        """Is the whole key in there?"""
        return bool(self._key) and data.find(self._key) >= 0

    def watch(self) -> "KeyWatch":
        """A watch over one answer."""
        return KeyWatch(self._key)


class KeyWatch:
    """Sees the key in chunks, also across their borders, with the last len(key) - 1 bytes kept."""

    __slots__ = ("_key", "_overlap", "_tail")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._overlap = len(key) - 1
        self._tail = b""

    def sees_key(self, chunk: bytes) -> bool:
        """Does the key end in this chunk? Once it does, the chunk must not go on."""
        key = self._key
        if not key:
            return False
        if chunk.find(key) >= 0:
            return True
        overlap = self._overlap
        seam = self._tail + chunk[:overlap]
        self._tail = chunk[-overlap:] if len(chunk) >= overlap else seam[-overlap:]
        return seam.find(key) >= 0
