"""The tap: puts the right meter beside an answer. It sees every chunk, changes none, and never raises."""

from typing import TYPE_CHECKING

import orjson

from app.domain.meter import BodyMeter, Reading, StreamMeter
from app.domain.records import Outcome
from app.gateway.coding import ObservingDecoder, is_plain

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BEFORE_KNOWN = Reading()


class Tap:
    """Beside one answer."""

    __slots__ = ("_blind", "_complete", "_decoder", "_is_stream", "_meter", "_stumbled", "feed")

    def __init__(self) -> None:
        self._is_stream: bool | None = None
        self._meter: StreamMeter | BodyMeter | None = None
        self._decoder: ObservingDecoder | None = None
        self._complete = False
        self._blind = False  # the content coding is not read, or not any more
        self._stumbled = False
        self.feed: Callable[[bytes], bool] = self._feed_first
        """Takes a chunk; True once: this chunk makes the answer's end visible. Never raises."""

    @property
    def failed(self) -> bool:
        """Was there something that could not be read?"""
        return self._stumbled or (self._meter is not None and self._meter.errors > 0)

    @property
    def reading(self) -> Reading:
        """What has been seen so far."""
        return self._meter.reading if self._meter is not None else _READ_BEFORE_KNOWN

    @property
    def is_stream(self) -> bool:
        """Are events read?"""
        return isinstance(self._meter, StreamMeter)

    @property
    def is_plain(self) -> bool:
        """Is the answer read as it comes, without a content coding?"""
        return self._decoder is None

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
        if kind.find(b"event-stream") >= 0:
            self._is_stream = True
        elif kind.find(b"json") >= 0 or not asked_for_stream:
            self._is_stream = False
        if content_encoding is not None and not is_plain(content_encoding):
            self._decoder = ObservingDecoder(content_encoding)

    def _feed_first(self, chunk: bytes) -> bool:
        """From the first chunk on it is clear who looks at them: the meter itself, when nothing need be decoded."""
        if self._decoder is not None:
            self.feed = self._feed_decoded
        else:
            self._meter = self._choose(chunk)
            self.feed = self._meter.feed
        return self.feed(chunk)

    def _feed_decoded(self, chunk: bytes) -> bool:
        if self._blind or self._decoder is None:
            return False
        try:
            chunk = self._decoder.feed(chunk)
            if self._meter is None:
                self._meter = self._choose(chunk)
            return self._meter.feed(chunk)
        except Exception:  # noqa: BLE001 - watching cannot hurt: whatever is wrong here, the bytes go on
            self._stumbled = self._blind = True
            return False

    def end(self) -> None:
        """The body ended."""
        if self._meter is None:
            return
        try:
            self._complete = self._meter.end()
        except Exception:  # noqa: BLE001 - as above
            self._stumbled = True

    def _choose(self, first: bytes) -> StreamMeter | BodyMeter:
        is_stream = self._is_stream
        if is_stream is None:  # asked for a stream, answered without saying what it is
            is_stream = first.lstrip()[:1] != b"{"
        return StreamMeter(orjson.loads) if is_stream else BodyMeter(orjson.loads)
