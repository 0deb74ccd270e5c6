"""Reads a few values out of a JSON document of any size while it passes.

A terminal event can be one line of twenty megabytes, an image in base64, with forty bytes of usage behind it. The
extractor follows quotes and brackets chunk by chunk, and keeps only the raw text of the wanted values. Its time is
linear in the bytes, and its memory is the kept values. It counts nesting and does not recurse.

It does not check what it skips. It compares keys as they are written, so it does not find a key spelt with escapes.
"""

import re
from collections.abc import Callable, Mapping

Wanted = Mapping[bytes, "Wanted"]
"""Keys of an object whose values are kept. {} keeps the whole value, another mapping those keys of the object in it.

A value that is no object is always kept whole.
"""

Kept = dict[bytes, "bytes | Kept"]

KEEP_LIMIT_BYTES = 64 * 1024
"""The longest value that is kept; a longer one becomes an empty object."""

TOO_LONG = b"{}"
QUOTE, COLON, COMMA, OPEN_BRACE = b'":,{'
OPENERS = b"{["

TOKEN = re.compile(rb'["{}\[\],:]')
SPACE = re.compile(rb"[ \t\r\n]*+")
STRING_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

# Matches a run that does not change the depth: strings, flat containers, and what lies between. One match saves
# hundreds of steps; where it stops, the scan goes on byte by byte. The counts bound backtracking and the frames that
# a match keeps: an unbounded repeat keeps one for each round.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BETWEEN = rb'[^"{}\[\]]*+'
_FLAT = rb"[{\[]%b(?:%b%b){0,16}[}\]]" % (_BETWEEN, _STRING, _BETWEEN)
LEVEL_RUN = re.compile(rb"%b(?:(?:%b|%b)%b){0,64}" % (_BETWEEN, _STRING, _FLAT, _BETWEEN), re.DOTALL)

# The position within the members of an object that is looked into.
BEFORE_KEY, AFTER_KEY, BEFORE_VALUE, IN_VALUE = range(4)


class JsonExtractor:
    """Follows one document. `closed` turns true with the byte that closes its outermost bracket."""

    __slots__ = (
        "_dead",
        "_depth",
        "_escaped",
        "_in_string",
        "_keep_from",
        "_keeping",
        "_kept",
        "_key",
        "_place",
        "_scopes",
        "_too_long",
        "_wanted",
        "closed",
    )

    def __init__(self, wanted: Wanted) -> None:
        self.closed = False
        self._wanted = wanted
        self._dead = False  # the document is no object or array
        self._depth = 0  # brackets open
        self._scopes: list[Wanted] = []  # the open objects that are looked into, outermost first
        self._kept: list[Kept] = [{}]  # the values kept of each; the first is the whole result
        self._place = BEFORE_KEY
        self._key = b""
        self._in_string = False
        self._escaped = False  # the chunk ended just after a backslash
        self._keeping: bytearray | None = None  # raw text of the key or value being kept
        self._keep_from = 0
        self._too_long = False

    def feed(self, chunk: bytes, start: int, stop: int) -> bool:
        """Read `chunk[start:stop]`; returns `closed`. What follows the closing byte is ignored."""
        position = self._keep_from = start
        while position < stop and not self.closed and not self._dead:
            if self._in_string:
                position = self._pass_string(chunk, position, stop)
            elif self._depth == 0:
                position = self._open(chunk, position, stop)
            elif self._depth > len(self._scopes):
                position = self._pass_nested(chunk, position, stop)
            elif self._place == BEFORE_VALUE:
                position = self._start_value(chunk, position, stop)
            else:
                position = self._pass_member(chunk, position, stop)
        if self._keeping is not None:
            self._keep(chunk, stop)
        return self.closed

    def document(self, loads: Callable[[bytes], object]) -> dict[str, object]:
        """The kept values, decoded and nested as they were. A value that cannot be decoded is an empty object."""
        return _decode(self._kept[0], loads)

    def _open(self, chunk: bytes, position: int, stop: int) -> int:
        found = SPACE.match(chunk, position, stop)
        position = found.end() if found else position
        if position == stop:
            return stop
        self._dead = chunk[position] not in OPENERS
        self._depth = 1
        if chunk[position] == OPEN_BRACE:
            self._scopes.append(self._wanted)
        return position + 1

    def _pass_string(self, chunk: bytes, position: int, stop: int) -> int:
        """Move to the end of the string that contains `position`."""
        if self._escaped:
            self._escaped = False
            position += 1
        end = chunk.find(b'"', position, stop)
        end = stop if end < 0 else end
        if chunk.find(b"\\", position, end) >= 0:
            found = STRING_REST.match(chunk, position, stop)
            end = found.end() if found else stop
            if end < stop and chunk[end] != QUOTE:
                self._escaped = True  # a backslash is the last byte
                return stop
        if end == stop:
            return stop
        self._in_string = False
        if self._place == BEFORE_KEY and self._keeping is not None:
            self._key = self._end_keep(chunk, end)
            self._place = AFTER_KEY
        return end + 1

    def _pass_nested(self, chunk: bytes, position: int, stop: int) -> int:
        """Move through a value that is not looked into, to its end or into a string that the next chunk continues."""
        depth, outside = self._depth, len(self._scopes)
        while position < stop and depth > outside and not self._in_string:
            found = LEVEL_RUN.match(chunk, position, stop)
            position = found.end() if found else position
            if position < stop:
                mark = chunk[position]
                position += 1
                if mark == QUOTE:
                    self._in_string = True
                else:
                    depth += 1 if mark in OPENERS else -1
        self._depth = depth
        self.closed = depth == 0
        return position

    def _pass_member(self, chunk: bytes, position: int, stop: int) -> int:
        """Move past the next token of an object that is looked into."""
        found = TOKEN.search(chunk, position, stop)
        if found is None:
            return stop
        position = found.start()
        mark = chunk[position]
        if mark == QUOTE:
            self._in_string = True
            if self._place == BEFORE_KEY:
                self._start_keep(position + 1)
        elif mark == COLON:
            self._place = BEFORE_VALUE if self._place == AFTER_KEY else self._place
        elif mark == COMMA:
            self._end_value(chunk, position)
            self._place = BEFORE_KEY
        elif mark in OPENERS:
            self._depth += 1
        else:
            self._leave_object(chunk, position)
        return position + 1

    def _start_value(self, chunk: bytes, position: int, stop: int) -> int:
        found = SPACE.match(chunk, position, stop)
        position = found.end() if found else position
        if position == stop:
            return stop
        self._place = IN_VALUE
        wanted = self._scopes[-1].get(self._key)
        if wanted is None:
            return position
        if not wanted or chunk[position] != OPEN_BRACE:
            self._start_keep(position)
            return position
        inner: Kept = {}
        self._kept[-1][self._key] = inner
        self._kept.append(inner)
        self._scopes.append(wanted)
        self._depth += 1
        self._place = BEFORE_KEY
        return position + 1

    def _leave_object(self, chunk: bytes, position: int) -> None:
        self._end_value(chunk, position)
        self._scopes.pop()
        if len(self._kept) > 1:
            self._kept.pop()
        self._depth -= 1
        self._place = IN_VALUE
        self.closed = self._depth == 0

    def _end_value(self, chunk: bytes, position: int) -> None:
        if self._keeping is not None:
            self._kept[-1][self._key] = self._end_keep(chunk, position)

    def _start_keep(self, position: int) -> None:
        self._keeping, self._keep_from, self._too_long = bytearray(), position, False

    def _keep(self, chunk: bytes, stop: int) -> None:
        """Add this chunk's part of the value, unless the value is too long."""
        if self._keeping is None or self._too_long:
            return
        if len(self._keeping) + stop - self._keep_from > KEEP_LIMIT_BYTES:
            self._too_long = True
            self._keeping.clear()
        elif stop > self._keep_from:
            self._keeping += chunk[self._keep_from : stop]

    def _end_keep(self, chunk: bytes, position: int) -> bytes:
        self._keep(chunk, position)
        kept = TOO_LONG if self._too_long or self._keeping is None else bytes(self._keeping)
        self._keeping = None
        return kept


def _decode(kept: Kept, loads: Callable[[bytes], object]) -> dict[str, object]:
    decoded: dict[str, object] = {}
    for key, value in kept.items():
        name = key.decode(errors="replace")
        if isinstance(value, dict):
            decoded[name] = _decode(value, loads)
        else:
            try:
                decoded[name] = loads(value)
            except (ValueError, RecursionError, MemoryError):
                decoded[name] = {}
    return decoded
