"""The tap: puts the right meter beside an answer. It sees every chunk, changes none, and never raises."""

import orjson

from app.domain.meter import BodyMeter, Reading, StreamMeter
from app.domain.records import Outcome
from app.gateway.coding import ObservingDecoder

_READ_BEFORE_KNOWN = Reading()


class Tap:
    """Beside one answer."""

    __slots__ = ("_blind", "_complete", "_decoder", "_is_stream", "_meter", "failed")

    def __init__(self) -> None:
        self._is_stream: bool | None = None
        self._meter: StreamMeter | BodyMeter | None = None
        self._decoder: ObservingDecoder | None = None
        self._complete = False
        self._blind = False  # the content coding is not read, or not any more
        self.failed = False

    @property
    def reading(self) -> Reading:
        """What has been seen so far."""
        return self._meter.reading if self._meter is not None else _READ_BEFORE_KNOWN

    @property
    def outcome_at_end(self) -> Outcome:
        """For an answer that ended properly without saying how it went: a stream was cut, a document was odd.

        One that could not be watched ended properly; that is all there is to say.
        """
        if self._complete or self._blind:
            return Outcome.COMPLETED
        if isinstance(self._meter, BodyMeter) or self._is_stream is False:
            return Outcome.FAILED
        return Outcome.TRUNCATED

    def expect(self, asked_for_stream: bool, content_type: bytes | None, content_encoding: bytes | None) -> None:  # noqa: FBT001
        """Take what was asked and the answer's headers: they decide when they are clear, else its first byte does."""
        kind = (content_type or b"").lower()
        if b"event-stream" in kind:
            self._is_stream = True
        elif b"json" in kind or not asked_for_stream:
            self._is_stream = False
        if content_encoding is not None and content_encoding.strip().lower() != b"identity":
            self._decoder = ObservingDecoder(content_encoding)

    def feed(self, chunk: bytes) -> bool:
        """True once: this chunk makes the answer's end visible."""
        try:
            if self._decoder is not None:
                if self._blind:
                    return False
                chunk = self._decoder.feed(chunk)
            meter = self._meter
            if meter is None:
                meter = self._meter = self._choose(chunk)
            complete = meter.feed(chunk)
        except Exception:  # noqa: BLE001 - watching cannot hurt: whatever is wrong here, the bytes go on
            self.failed = True
            self._blind = self._decoder is not None
            return False
        if complete:
            self._complete = True
            self.failed = meter.errors > 0
        return complete

    def end(self) -> None:
        """The body ended."""
        if self._meter is None:
            return
        try:
            self._complete = self._meter.end() or self._complete
        except Exception:  # noqa: BLE001 - as above
            self.failed = True
        self.failed = self.failed or self._meter.errors > 0

    def _choose(self, first: bytes) -> StreamMeter | BodyMeter:
        is_stream = self._is_stream
        if is_stream is None:  # asked for a stream, answered without saying what it is
            is_stream = first.lstrip()[:1] != b"{"
        return StreamMeter(orjson.loads) if is_stream else BodyMeter(orjson.loads)
