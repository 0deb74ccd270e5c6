"""One JSON document that arrives in pieces: whether it is whole, and the values that are wanted of it.

A document of up to COLLECT_LIMIT_BYTES is collected and decoded at once. A JsonExtractor reads a larger one as it
passes, and nothing is collected. The extractor also decides, in linear time, whether a document has closed whose end
is not marked, and it reads documents that a strict decoder refuses: a lone surrogate in a model's text must not hide
the usage behind it.
"""

import re
from collections.abc import Callable

from app.domain.answer.json_extractor import JsonExtractor, Wanted

Loads = Callable[[bytes], object]
"""Decodes one JSON document; raises ValueError or RecursionError if the bytes are none."""

COLLECT_LIMIT_BYTES = 256 * 1024
BLANK = b" \t\r\n"
CLOSERS = b"}]"


class JsonDocument:
    """Collects one document. Once `whole`, `value` is the decoded document, or at least its wanted part.

    A document is whole when its outermost bracket closes; what follows is ignored. `marker` is a pattern without
    brackets: a document without a match is not read and never whole. finish() sets `unreadable` when it cannot read a
    document. No method raises for any input, provided `loads` raises nothing else than it may.
    """

    __slots__ = (
        "_closer_seen",
        "_collected",
        "_extracted",
        "_extractor",
        "_loads",
        "_marker",
        "_searched",
        "_wanted",
        "unreadable",
        "value",
        "whole",
    )

    def __init__(self, loads: Loads, wanted: Wanted, marker: re.Pattern[bytes] | None = None) -> None:
        self.value: object = None
        self.whole = False
        self.unreadable = False
        self._loads = loads
        self._wanted = wanted
        self._marker = marker
        self._collected: bytearray | None = bytearray()  # None once it is too large, or no longer needed
        self._searched = 0  # there is no marker before this index
        self._extractor: JsonExtractor | None = None
        self._extracted = 0  # how many of the collected bytes the extractor has read
        self._closer_seen = False  # the last byte that is not blank is a closing bracket

    @property
    def collected(self) -> bytearray | None:
        """The bytes so far; None when they were too many, or have been read."""
        return self._collected

    def add(self, chunk: bytes, start: int, stop: int) -> None:
        """Take `chunk[start:stop]`."""
        if self.whole:
            return
        if self._collected is not None and len(self._collected) + stop - start > COLLECT_LIMIT_BYTES:
            self._extract(self._collected)
            self._collected = None
        if self._collected is None:
            if self._extractor is not None:
                self._extractor.feed(chunk, start, stop)
            return
        self._collected += memoryview(chunk)[start:stop]
        while stop > start and chunk[stop - 1] in BLANK:
            stop -= 1
        if stop > start:
            self._closer_seen = chunk[stop - 1] in CLOSERS

    def look(self) -> bool:
        """Whether the document is whole by now. It is decoded once at most; after that the extractor decides."""
        if self.whole:
            return True
        if self._collected is None:
            return self._read_extractor()
        if not self._closer_seen or not self._matches(self._collected):
            return False
        self._closer_seen = False
        if self._extractor is None and self._decode(self._collected):
            return True
        self._extract(self._collected)
        return self._read_extractor()

    def finish(self) -> bool:
        """No more bytes will come. Returns whether the document is whole, also without a closing bracket."""
        collected = self._collected
        if self.whole or (collected is None and self._read_extractor()):
            return True
        if collected is not None:
            if not self._matches(collected) or not collected.strip():
                return False
            if self._decode(collected):
                return True
            self._extract(collected)
        self.unreadable = not self._read_extractor()
        return self.whole

    def _matches(self, collected: bytearray) -> bool:
        if self._marker is None:
            return True
        if self._marker.search(collected, self._searched) is None:
            self._searched = len(collected)  # no marker is cut in two here: the last byte is a bracket
            return False
        return True

    def _decode(self, collected: bytearray) -> bool:
        try:
            self.value = self._loads(bytes(collected))
        except (ValueError, RecursionError, MemoryError):
            return False
        self._set_whole()
        return True

    def _extract(self, collected: bytearray) -> None:
        """Feed the extractor the bytes that it has not read yet."""
        if self._extractor is None:
            self._extractor = JsonExtractor(self._wanted)
        fresh = bytes(memoryview(collected)[self._extracted :])
        self._extracted = len(collected)
        self._extractor.feed(fresh, 0, len(fresh))

    def _read_extractor(self) -> bool:
        if self._extractor is not None and self._extractor.closed:
            self.value = self._extractor.document(self._loads)
            self._set_whole()
        return self.whole

    def _set_whole(self) -> None:
        self.whole = True
        self._collected = self._extractor = None
