"""One JSON document that arrives in pieces: when it is whole, and what the wanted part of it says.

Up to COLLECT_LIMIT_BYTES it is collected and decoded at once; beyond that a JsonExtractor has read it from its first
byte on, and nothing is held. The extractor also answers, exactly and in linear time, whether a document whose end is
not marked yet has closed. It also reads what a strict decoder refuses: a lone surrogate in a model's text must not
cost the usage behind it.
"""

import re
from collections.abc import Callable

from app.domain.answer.json_extractor import JsonExtractor, Wanted

Loads = Callable[[bytes], object]
"""Decodes one JSON document; raises ValueError (or RecursionError) when it is none."""

COLLECT_LIMIT_BYTES = 256 * 1024
BLANK = b" \t\r\n"
CLOSERS = b"}]"


class JsonDocument:
    """Collects one document. Once `whole`, `value` is it, or at least the wanted part of it, decoded.

    A document counts as whole when its outermost bracket closes, whatever follows. With a `marker`, a pattern without
    brackets, only a document in which it is found is read; another is never whole. `unreadable` says that finish()
    found a document to be read, and could not. No method raises for any input, given a `loads` that keeps its promise.
    """

    __slots__ = (
        "_closer_seen",
        "_collected",
        "_loads",
        "_marker",
        "_searched",
        "_tap",
        "_tapped",
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
        self._collected: bytearray | None = bytearray()  # None once there is too much of it, or no more use for it
        self._searched = 0  # no marker is in what comes before this
        self._tap: JsonExtractor | None = None
        self._tapped = 0  # how much of what is collected the tap has had
        self._closer_seen = False  # the last thing seen is a closing bracket

    @property
    def collected(self) -> bytearray | None:
        """What has come so far; None when that was too much, or it has been read."""
        return self._collected

    def add(self, chunk: bytes, start: int, stop: int) -> None:
        """Take `chunk[start:stop]`."""
        if self.whole:
            return
        if self._collected is not None and len(self._collected) + stop - start > COLLECT_LIMIT_BYTES:
            self._follow(self._collected)
            self._collected = None
        if self._collected is None:
            if self._tap is not None:
                self._tap.feed(chunk, start, stop)
            return
        self._collected += memoryview(chunk)[start:stop]
        while stop > start and chunk[stop - 1] in BLANK:
            stop -= 1
        if stop > start:
            self._closer_seen = chunk[stop - 1] in CLOSERS

    def look(self) -> bool:
        """Whether the document is whole by now. Decoding is tried once at most; after that the tap decides."""
        if self.whole:
            return True
        if self._collected is None:
            return self._read_tap()
        if not self._closer_seen or not self._matches(self._collected):
            return False
        self._closer_seen = False
        if self._tap is None and self._decode(self._collected):
            return True
        self._follow(self._collected)
        return self._read_tap()

    def finish(self) -> bool:
        """No more will come: whether the document is whole, if it need not be closed by a bracket."""
        collected = self._collected
        if self.whole or (collected is None and self._read_tap()):
            return True
        if collected is not None:
            if not self._matches(collected) or not collected.strip():
                return False
            if self._decode(collected):
                return True
            self._follow(collected)
        self.unreadable = not self._read_tap()
        return self.whole

    def _matches(self, collected: bytearray) -> bool:
        if self._marker is None:
            return True
        if self._marker.search(collected, self._searched) is None:
            self._searched = len(collected)  # no marker is cut here: a bracket came last, and markers have none
            return False
        return True

    def _decode(self, collected: bytearray) -> bool:
        try:
            self.value = self._loads(bytes(collected))
        except (ValueError, RecursionError, MemoryError):
            return False
        self._set_whole()
        return True

    def _follow(self, collected: bytearray) -> None:
        """Let the tap have what it has not had yet."""
        if self._tap is None:
            self._tap = JsonExtractor(self._wanted)
        fresh = bytes(memoryview(collected)[self._tapped :])
        self._tapped = len(collected)
        self._tap.feed(fresh, 0, len(fresh))

    def _read_tap(self) -> bool:
        if self._tap is not None and self._tap.closed:
            self.value = self._tap.document(self._loads)
            self._set_whole()
        return self.whole

    def _set_whole(self) -> None:
        self.whole = True
        self._collected = self._tap = None
