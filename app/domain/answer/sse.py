"""Server-sent events as bytes: where an event starts, and which of its bytes are data.

Only LF, CR and CRLF end a line, as the HTML standard says; U+2028 and the like are ordinary text inside JSON. Nothing
here copies, decodes or keeps a line: it reads the passing chunks in place, however they are cut.
"""

import re

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""A stream may begin with it. It is no part of the first line."""

DATA_FIELD = b"data:"
LF, CR = b"\n\r"
LINE_END = re.compile(rb"[\r\n]")
SHORT_LINE_BYTES = 256

# Whole lines in a row that cannot be data, mostly comments. One match replaces a step for each: without it, 20 MB of
# short comments without a blank line would block all calls for seconds.
OTHER_LINES = re.compile(rb"(?:[^\r\nd][^\r\n]*+(?:\r\n|\n|\r(?=[^\n])))++")


def event_start(chunk: bytes, low: int, high: int) -> int:
    """Where the event that covers or follows `chunk[high - 1]` starts, if some event starts at `low`.

    That is just after the last blank line in `chunk[low:high]`, else `low`. The line feed of that blank line's CRLF may
    come first; DataLines reads it as an event without data.
    """
    blank = chunk.rfind(b"\n\n", low, high)
    if chunk.find(b"\r", low, high) >= 0:
        blank = max(blank, chunk.rfind(b"\n\r", low, high), chunk.rfind(b"\r\r", low, high))
    return low if blank < 0 else blank + 2


class DataLines:
    """Finds the data of one event that comes in pieces. Its state is a few bytes whatever the event's size.

    `end` is the index just after the blank line that ended the event in the last chunk, or -1 while the event is open.
    The next event needs a new DataLines.
    """

    __slots__ = ("_after_cr", "_head", "_is_data", "end")

    def __init__(self) -> None:
        self.end = -1
        self._head = b""  # the line's first bytes, while they are too few to name its field
        self._is_data: bool | None = None  # None until the field of the current line is known
        self._after_cr = False  # the last chunk ended in CR: a LF now belongs to it

    def feed(self, chunk: bytes, start: int) -> list[tuple[int, int]]:
        """The spans of `chunk[start:]` that are data, up to the event's end, in order.

        A span begins after the colon, with the space if there is one. It includes one byte of the line end if that is
        in this chunk, so that joined spans keep their lines apart.
        """
        spans: list[tuple[int, int]] = []
        position, size = start, len(chunk)
        if self._after_cr and position < size:
            self._after_cr = False
            position += chunk[position] == LF
        while position < size:
            if self._is_data is None and not self._head and (others := OTHER_LINES.match(chunk, position)):
                position = others.end()
                continue
            stop = _line_end(chunk, position)
            if stop == position and self._is_data is None and not self._head:
                self.end = self._next_line(chunk, stop)
                break
            if self._is_data is None:
                position = self._read_field(chunk, position, stop)
            if self._is_data:
                spans.append((position, min(stop + 1, size)))
            position = size if stop == size else self._next_line(chunk, stop)
        return spans

    def _read_field(self, chunk: bytes, position: int, stop: int) -> int:
        """Decide whether this line is data; returns where its value starts if so."""
        value = position + len(DATA_FIELD) - len(self._head)
        self._head += chunk[position : min(value, stop)]
        if stop < len(chunk) or len(self._head) == len(DATA_FIELD):
            self._is_data = self._head == DATA_FIELD
        return value

    def _next_line(self, chunk: bytes, stop: int) -> int:
        """Leave the line that ends at `stop`; returns where the next one starts."""
        self._head, self._is_data = b"", None
        after = stop + 1
        if chunk[stop] == CR:
            if after == len(chunk):
                self._after_cr = True
            elif chunk[after] == LF:
                after += 1
        return after


def _line_end(chunk: bytes, start: int) -> int:
    """Index of the CR or LF that ends the line, or the chunk's length.

    Short lines use a pattern. Long ones use two plain finds over a growing window: they are many times faster over
    megabytes, and do not search the whole chunk again for each line of a stream that uses only one of the two.
    """
    window = SHORT_LINE_BYTES
    found = LINE_END.search(chunk, start, start + window)
    if found is not None:
        return found.start()
    size, start = len(chunk), start + window
    while start < size:
        stop = min(start + window, size)
        feed = chunk.find(b"\n", start, stop)
        carriage = chunk.find(b"\r", start, feed if feed >= 0 else stop)
        if carriage >= 0 or feed >= 0:
            return carriage if carriage >= 0 else feed
        start, window = stop, window * 2
    return size
