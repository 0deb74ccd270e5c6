"""Screens an answer for the upstream key, and chooses the meter that reads it.

It sees every chunk, changes none, and never raises.
"""

from typing import TYPE_CHECKING

import orjson

from app.domain.answer.json_extractor import OPEN_BRACE, OPENERS
from app.domain.answer.meter import AnswerReading, BodyMeter, StreamMeter
from app.domain.answer.sse import BYTE_ORDER_MARK
from app.domain.records import Outcome
from app.gateway.exchange.answer_coding import is_plain
from app.gateway.exchange.coded_watch import CodedWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.gateway.exchange.answer_head import Values
    from app.gateway.exchange.key_guard import KeyGuard, Watch

_READ_BEFORE_KNOWN = AnswerReading()
_NO_ANSWER = AnswerReading(no_answer=True)
_BLANK = b" \t\r\n"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_FIELD = 6

_DAMAGED = "Upstream's answer does not decode by its Content-Encoding."
_CUT_CODING = "Upstream's answer ended before its Content-Encoding did."
_NO_TERMINAL_EVENT = "Upstream's stream ended without a terminal event."
_NO_RESPONSE = "Upstream's answer is no response of the API."
_CUT_DOCUMENT = "Upstream's answer ended before its JSON did."


class AnswerMeter:
    """The meter and the key watch of one answer."""

    __slots__ = (
        "_coded",
        "_complete",
        "_errored",
        "_guard",
        "_head",
        "_looks_right",
        "_meter",
        "_says_stream",
        "feed",
        "reading",
        "watch",
    )

    def __init__(self, guard: "KeyGuard") -> None:
        self.watch: Watch = guard.watch()
        self._guard = guard
        self._says_stream = False  # by its headers, or else by the request
        self._meter: StreamMeter | BodyMeter | None = None
        self._head = b""  # the first bytes, while they do not show what the answer is
        self._coded: CodedWatch | None = None
        self._complete = False
        self._looks_right = True  # it begins as events or JSON do
        self._errored = False
        self.reading: AnswerReading = _READ_BEFORE_KNOWN
        """What has been read so far. An attribute, since a property costs three calls an answer."""
        self.feed: Callable[[bytes], bool] = self._feed_first
        """Reads a chunk. True once: when the chunk makes the answer's end visible. Never raises."""

    @property
    def failed(self) -> bool:
        """Whether a part of the answer could not be read."""
        unread = self._coded is not None and self._coded.blind
        return self._errored or unread or (self._meter is not None and self._meter.errors > 0)

    @property
    def is_document(self) -> bool:
        """Whether the answer is known to be one JSON document."""
        return isinstance(self._meter, BodyMeter)

    @property
    def streams(self) -> bool:
        """Is it a stream? Its first bytes decide, before them its headers. Some upstreams answer with JSON instead."""
        return self._says_stream if self._meter is None else isinstance(self._meter, StreamMeter)

    @property
    def is_plain(self) -> bool:
        """Whether the answer has no content coding."""
        return self._coded is None

    @property
    def outcome_at_end(self) -> Outcome:
        """The outcome of an answer that ended properly without a status.

        A stream was cut, and so was JSON that did not end: not every upstream announces a length. Another document was
        no response. A coded answer was cut if its coding was; one in an unknown coding counts as completed.
        """
        if self._coded is not None:
            if not self._coded.whole:
                return Outcome.TRUNCATED
            if self._coded.blind:
                return Outcome.COMPLETED
        if self._complete:
            return Outcome.COMPLETED
        return Outcome.TRUNCATED if self.streams or self._is_cut_document else Outcome.FAILED

    @property
    def trouble(self) -> str | None:
        """What was wrong with an answer that ended without a status."""
        if self._coded is not None and not self._coded.whole:
            return _DAMAGED if self._coded.damaged else _CUT_CODING
        if self._is_cut_document:
            return _CUT_DOCUMENT
        return _NO_TERMINAL_EVENT if isinstance(self._meter, StreamMeter) else _NO_RESPONSE

    @property
    def _is_cut_document(self) -> bool:
        return self.is_document and self._looks_right and not self._complete

    def expect(self, asked_for_stream: bool, values: "Values") -> None:  # noqa: FBT001
        """Note what was asked for and what the headers say. They decide only if the first bytes do not."""
        kind = values.get(b"content-type", b"").lower()
        self._says_stream = kind.find(b"event-stream") >= 0 or (asked_for_stream and kind.find(b"json") < 0)
        coding = values.get(b"content-encoding")
        if coding is not None and not is_plain(coding):
            self.watch = self._coded = CodedWatch(coding, self._guard)

    def _feed_first(self, chunk: bytes) -> bool:
        """Choose the meter by the first bytes; from then on the meter itself reads the chunks of a plain answer."""
        if self._coded is not None:
            self.feed = self._feed_coded
            return self._feed_coded(chunk)
        if chunk[0] == OPEN_BRACE and not self._head:  # most answers
            self._meter = BodyMeter(orjson.loads)
        elif chunk.startswith(_FIELDS) and not self._head:
            self._meter = StreamMeter(orjson.loads)
        else:
            self._meter = self._choose(chunk)
            if self._meter is None:
                return False
            chunk = self._take_head()
        self.reading = self._meter.reading
        self.feed = self._meter.feed
        return self.feed(chunk)

    def _feed_coded(self, _: bytes) -> bool:
        text = b"" if self._coded is None else self._coded.take_text()
        try:
            if self._meter is None:
                self._meter = self._choose(text)
                if self._meter is None:
                    return False
                self.reading = self._meter.reading
                text = self._take_head()
            return self._meter.feed(text)
        except Exception:  # noqa: BLE001 - metering must not hurt: the bytes go on
            self._errored = True
            return False

    def end(self) -> None:
        """The body ended."""
        if self._meter is None and self._head:  # too short to tell
            self._meter = StreamMeter(orjson.loads) if self._says_stream else BodyMeter(orjson.loads)
            self.reading = self._meter.reading
            self._meter.feed(self._take_head())
        if self._meter is None:
            if self._coded is None:
                self.reading = _NO_ANSWER
            return
        try:
            self._complete = self._meter.end()
            if not self._looks_right and self.reading == _READ_BEFORE_KNOWN:
                self.reading.no_answer = True
        except Exception:  # noqa: BLE001 - as above
            self._errored = True

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _choose(self, first: bytes) -> StreamMeter | BodyMeter | None:
        """The meter for an answer that begins with these bytes; None while they do not decide.

        A byte order mark and blanks are skipped: neither meter needs them.
        """
        head = self._head + first
        if len(head) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(head):
            self._head = head
            return None
        self._head = head = head.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANK)
        if not head or (len(head) < _LONGEST_FIELD and any(field.startswith(head) for field in _FIELDS)):
            return None
        if head[0] in OPENERS:
            return BodyMeter(orjson.loads)
        if head.startswith(_FIELDS):
            return StreamMeter(orjson.loads)
        self._looks_right = False
        if self._says_stream:
            return StreamMeter(orjson.loads)
        return BodyMeter(orjson.loads)
