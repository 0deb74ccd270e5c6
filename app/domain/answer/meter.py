"""The meter reads an answer from the side while it passes, and finds its usage.

    bytes, cut anywhere ──► StreamMeter ──► DataLines ──► JsonDocument ──► AnswerReading     (server-sent events)
                            BodyMeter   ────────────────► JsonDocument ──► AnswerReading     (one JSON document)
                                                              └── JsonExtractor              (more than 256 KiB)

Most chunks of a stream are searched once for the few keys and types that matter, and forgotten. Quotes within a JSON
string are escaped, so a model's text that quotes a terminal event does not match. What matches is decoded and judged
by its structure. The meter never raises and never changes a byte; it counts in `errors` what it cannot read.
"""

import json
import re
from typing import Protocol

from app.domain.answer.json_document import COLLECT_LIMIT_BYTES, JsonDocument, Loads
from app.domain.answer.json_extractor import Wanted
from app.domain.answer.reading import AnswerReading
from app.domain.answer.sse import BYTE_ORDER_MARK, DataLines, event_start
from app.domain.money.estimate import delta_bytes

__all__ = ["AnswerReading", "BodyMeter", "Loads", "Meter", "StreamMeter"]

# Every event that can end, name or fail an answer matches this.
CANDIDATE = re.compile(rb'"(?:response(?:\.(?:completed|incomplete|failed|done|error))?|error)"')

# Every event that can end or fail an answer matches this. It leaves out the long `response.in_progress`.
DECISIVE = re.compile(
    rb'"(?:(?:response\.)?(?:completed|incomplete|failed|cancelled)"|response\.(?:done|error)"|error"(?!\s*:\s*null\b))'
)

HOLD_LIMIT_BYTES = 1024
"""An open event up to this size is joined with the next chunk and searched again: that costs less than following it."""

# The values that an AnswerReading needs, for documents that are too large to decode.
LEAF: Wanted = {}
CODES: Wanted = {b"code": LEAF, b"type": LEAF, b"error_type": LEAF, b"message": LEAF}
ERROR: Wanted = {**CODES, b"metadata": {b"error_type": LEAF}}
COSTING: dict[bytes, Wanted] = {b"service_tier": LEAF, b"tool_usage": LEAF, b"output": LEAF}
ANSWER: Wanted = {**CODES, **COSTING, b"id": LEAF, b"status": LEAF, b"model": LEAF, b"usage": LEAF, b"error": ERROR}
EVENT: Wanted = {**CODES, b"error": ERROR, b"response": ANSWER}


class Meter(Protocol):
    """What the gateway asks of either meter. `errors` counts what could not be read."""

    reading: AnswerReading
    errors: int

    def feed(self, chunk: bytes) -> bool:
        """Read a chunk. True exactly once: when the chunk completes the terminal event, or the JSON document."""

    def end(self) -> bool:
        """The body has ended. True when only its end completes the terminal event, or the document."""


class StreamMeter:
    """Meters a stream of server-sent events.

    The first terminal event counts; nothing after it is read. feed() returns True as soon as that event's JSON closes
    at the end of a line or of the chunk. It does not wait for the blank line, since a client that reads lines or raw
    bytes has the event by then. Memory is at most 256 KiB and a chunk, whatever the size of an event.
    """

    __slots__ = ("_document", "_finished", "_held", "_idle", "_lines", "_loads", "_started", "errors", "reading")

    def __init__(self, loads: Loads = json.loads) -> None:
        self.reading = AnswerReading()
        self.errors = 0
        self._loads = loads
        self._lines: DataLines | None = None  # with _document: the open event
        self._document: JsonDocument | None = None
        self._held = b""  # the start of a small event that does not matter yet, to be put before the next chunk
        self._idle = False  # in mid-stream, and no event is open except what is held
        self._started = False  # past the place of a byte order mark
        self._finished = False

    def feed(self, chunk: bytes) -> bool:
        try:
            if self._held:
                chunk, self._held = self._held + chunk, b""
            whole_events = self._idle and (chunk[-2:] == b"\n\n" or chunk[-4:] == b"\r\n\r\n")
            if whole_events and CANDIDATE.search(chunk) is None:
                self.reading.output_bytes += delta_bytes(chunk)
                return False
            return self._scan(chunk)
        except Exception:  # noqa: BLE001 - metering must not hurt the stream
            return self._count_error()

    def end(self) -> bool:
        document, self._document = self._document, None
        finished, self._finished, self._idle = self._finished, True, False
        try:
            # A cut-off event is not whole, and not counted as an error.
            return not (finished or document is None or document.whole) and self._read(document, document.finish())
        except Exception:  # noqa: BLE001 - as above
            return self._count_error()

    def _scan(self, chunk: bytes) -> bool:
        if self._finished:
            return False
        if not self._started:
            chunk = self._strip_mark(chunk)
        position, size = 0, len(chunk)
        while position < size:
            if self._document is None:
                position = self._seek(chunk, position)
                if self._document is None:
                    break
            position = self._follow(chunk, position)
            if self._finished:
                return True
        self._idle = self._document is None and self._started
        return False

    def _strip_mark(self, chunk: bytes) -> bytes:
        """The chunk without a byte order mark; empty while it could still become one."""
        if len(chunk) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(chunk):
            self._held = chunk
            return b""
        self._started = True
        return chunk.removeprefix(BYTE_ORDER_MARK)

    def _seek(self, chunk: bytes, position: int) -> int:
        """Open the next event that matters, or the last one if the chunk does not end it; returns where it starts.

        `position` is the start of some event. Each byte is searched once, however many events a chunk holds. A small
        last event that does not matter is held back and not opened: most often it was cut in two.
        """
        passed, found = position, CANDIDATE.search(chunk, position)
        position = event_start(chunk, position, found.start() if found else len(chunk))
        self.reading.output_bytes += delta_bytes(chunk, passed, position)
        if found is None and len(chunk) - position <= HOLD_LIMIT_BYTES:
            self._held = chunk[position:]
        else:
            self._lines = DataLines()
            self._document = JsonDocument(self._loads, EVENT, DECISIVE if self.reading.named else CANDIDATE)
        return position

    def _follow(self, chunk: bytes, position: int) -> int:
        """Read the open event's bytes; returns where the next event starts, or the chunk's length."""
        lines, document = self._lines, self._document
        if lines is None or document is None:
            return len(chunk)
        for start, stop in lines.feed(chunk, position):
            document.add(chunk, start, stop)
        ended = lines.end >= 0
        if not document.whole:
            collected = document.collected
            whole = document.finish() if ended else document.look()
            if collected is not None and (whole or ended):  # a delta whose text looks like a name that matters
                self.reading.output_bytes += delta_bytes(collected)
            if self._read(document, whole):
                self._finished, self._idle = True, False
        if not ended and not self._finished:
            return len(chunk)
        self.errors += document.unreadable
        self._document = self._lines = None
        return lines.end

    def _read(self, document: JsonDocument, whole: bool) -> bool:  # noqa: FBT001 - the answer of finish() or look()
        return whole and self.reading.note_event(document.value)

    def _count_error(self) -> bool:
        """Count an error and go on with the next chunk as if an event started there."""
        self.errors += 1
        self._document = self._lines = None
        return False


class BodyMeter:
    """Meters an answer that is one JSON document. Memory is bounded as in StreamMeter."""

    __slots__ = ("_document", "_finished", "_loads", "errors", "reading")

    def __init__(self, loads: Loads = json.loads) -> None:
        self.reading = AnswerReading()
        self.errors = 0
        self._loads = loads
        self._document: JsonDocument | None = None
        self._finished = False

    def feed(self, chunk: bytes) -> bool:
        if self._finished:
            return False
        try:
            if self._document is None:
                if chunk[-1:] == b"}" and len(chunk) <= COLLECT_LIMIT_BYTES and self._read_whole(chunk):
                    return True
                self._document = JsonDocument(self._loads, ANSWER)
            self._document.add(chunk, 0, len(chunk))
            return self._document.look() and self._read(self._document)
        except Exception:  # noqa: BLE001 - metering must not hurt the answer
            return self._count_error()

    def end(self) -> bool:
        try:
            document = self._document
            if document is None or self._finished:
                return False
            if document.finish():
                return self._read(document)
            self.errors += document.unreadable
        except Exception:  # noqa: BLE001 - as above
            return self._count_error()
        self._document, self._finished = None, True
        return False

    def _read_whole(self, chunk: bytes) -> bool:
        """Decode an answer that came in one piece, as most do. False if it did not."""
        try:
            value = self._loads(chunk)
        except (ValueError, RecursionError, MemoryError):
            return False
        self._finished = True
        self.reading.note_body(value)
        return True

    def _read(self, document: JsonDocument) -> bool:
        self._document, self._finished = None, True
        self.reading.note_body(document.value)
        return True

    def _count_error(self) -> bool:
        self.errors += 1
        self._document, self._finished = None, True
        return False
