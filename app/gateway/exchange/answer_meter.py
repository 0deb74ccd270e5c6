"""The tap: screens an answer for the upstream key, and puts the right meter beside it.

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


class AnswerMeter:
    """Beside one answer."""

    __slots__ = (
        "_coded",
        "_complete",
        "_guard",
        "_head",
        "_looks_right",
        "_meter",
        "_says_stream",
        "_stumbled",
        "feed",
        "reading",
        "watch",
    )

    def __init__(self, guard: "KeyGuard") -> None:
        self.watch: Watch = guard.watch()
        self._guard = guard
        self._says_stream = False  # what its headers say, or else what was asked
        self._meter: StreamMeter | BodyMeter | None = None
        self._head = b""  # the first bytes, while they do not tell what the answer is
        self._coded: CodedWatch | None = None
        self._complete = False
        self._looks_right = True  # it begins as events or JSON do
        self._stumbled = False
        self.reading: AnswerReading = _READ_BEFORE_KNOWN
        """What has been seen so far. An attribute: a property cost three calls an answer."""
        self.feed: Callable[[bytes], bool] = self._feed_first
        """Takes a chunk; True once: this chunk makes the answer's end visible. Never raises."""

    @property
    def failed(self) -> bool:
        """Was there something that could not be read?"""
        unread = self._coded is not None and self._coded.blind
        return self._stumbled or unread or (self._meter is not None and self._meter.errors > 0)

    @property
    def is_document(self) -> bool:
        """Is it known to be one JSON document, and no stream?"""
        return isinstance(self._meter, BodyMeter)

    @property
    def is_plain(self) -> bool:
        """Is the answer read as it comes, without a content coding?"""
        return self._coded is None

    @property
    def outcome_at_end(self) -> Outcome:
        """For an answer that ended properly without saying how it went: a stream was cut, a document was odd.

        One that is coded was cut if its coding was. One in a coding that is not read ended properly; that is all there
        is to say.
        """
        if self._coded is not None:
            if not self._coded.whole:
                return Outcome.TRUNCATED
            if self._coded.blind:
                return Outcome.COMPLETED
        if self._complete:
            return Outcome.COMPLETED
        is_stream = self._says_stream if self._meter is None else isinstance(self._meter, StreamMeter)
        return Outcome.TRUNCATED if is_stream else Outcome.FAILED

    @property
    def trouble(self) -> str | None:
        """For an answer that ended without saying how it went: what was wrong with it."""
        if self._coded is not None and not self._coded.whole:
            return _DAMAGED if self._coded.damaged else _CUT_CODING
        return _NO_TERMINAL_EVENT if isinstance(self._meter, StreamMeter) else _NO_RESPONSE

    def expect(self, asked_for_stream: bool, values: "Values") -> None:  # noqa: FBT001
        """Take what was asked and what the headers say. They decide only where the first bytes do not."""
        kind = values.get(b"content-type", b"").lower()
        self._says_stream = kind.find(b"event-stream") >= 0 or (asked_for_stream and kind.find(b"json") < 0)
        coding = values.get(b"content-encoding")
        if coding is not None and not is_plain(coding):
            self.watch = self._coded = CodedWatch(coding, self._guard)

    def _feed_first(self, chunk: bytes) -> bool:
        """From the first telling bytes on the meter itself takes the chunks, when nothing need be decoded."""
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
        except Exception:  # noqa: BLE001 - watching cannot hurt: whatever is wrong here, the bytes go on
            self._stumbled = True
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
            self._stumbled = True

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _choose(self, first: bytes) -> StreamMeter | BodyMeter | None:
        """The meter for what begins with the bytes in `_head`; None while they do not tell.

        A byte order mark and blanks say nothing, and neither meter needs them.
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
