"""The hard stop: ends a stream at its output ceiling with one whole event of ours, as upstream itself would end it.

    passed on ──more output than the ceiling──> reached ──the open event is whole──> our event, a clean end
                                                   └── not visible, or not within 1 MiB ──> cut

It keeps two of the events that were passed on: `response.created`, from whose response object our event is made, and
the last whole event, whose sequence number it continues. Only streams of clients with `hard_stop` have one.
"""

import json
import re
from typing import TYPE_CHECKING

from app.domain.errors import UpstreamFault
from app.domain.headers import Headers, announced_length, value_of
from app.domain.money.estimate import BYTES_PER_TOKEN
from app.gateway.exchange.ending import Ending
from app.gateway.exchange.phase import Phase

if TYPE_CHECKING:
    from app.gateway.exchange.exchange import Exchange

FURTHEST_BYTES = 1024 * 1024
"""The most that is passed on after the ceiling to reach the end of an event, and the most that is kept of one event."""

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_LINE = re.compile(rb"[^\r\n]+")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_SEAM_BYTES = 3  # a blank line with the line end before it has four at the most


class HardStop:
    """An UpstreamListener in front of the exchange of one stream; `tokens` is its ceiling."""

    def __init__(self, exchange: "Exchange", tokens: int) -> None:
        self._exchange = exchange
        self._most_bytes = tokens * BYTES_PER_TOKEN
        self._reached = self._ended = False
        self._further_bytes = 0
        self._open = bytearray()  # the open event, as far as it was passed on
        self._whole = b""  # the last whole event
        self._created: bytes | None = None
        self._lost = False  # the open event is too large to be kept
        self._sized = False  # the answer has a length, which one more event would exceed

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """Hand it on."""
        self._sized = announced_length(value_of(headers, b"content-length")) is not None
        self._exchange.head(status, headers, retry_count)

    def data(self, chunk: bytes) -> None:
        """Hand the chunk on, up to the end."""
        end = self._event_end(chunk) if self._reached and self._exchange.phase is Phase.PASSING else len(chunk)
        self._pass(chunk[:end])
        if end < len(chunk) and not self._ended:
            self._exchange.data(chunk[end:])  # after a terminal event

    def end(self) -> None:
        """Hand it on."""
        self._exchange.end()

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:
        """Hand it on."""
        self._exchange.broken(fault, retry_count)

    def _pass(self, chunk: bytes) -> None:
        exchange, meter = self._exchange, self._exchange.meter
        exchange.data(chunk)
        if exchange.phase is not Phase.PASSING or meter.is_document:
            return
        plain = meter.is_plain
        if plain:
            self._follow(chunk)
        self._further_bytes += self._reached * len(chunk)
        self._reached = self._reached or meter.reading.output_bytes > self._most_bytes
        if self._reached:
            self._stop(whole_events=plain and not self._sized)

    def _stop(self, *, whole_events: bool) -> None:
        """End the stream, if an event has just ended or its end cannot be waited for."""
        event = self._last_event() if whole_events and not self._open and not self._lost else None
        if event is not None:
            self._ended = True
            self._exchange.end_by(Ending.CEILING_REACHED, event)
        elif not whole_events or self._created is None or self._further_bytes > FURTHEST_BYTES or not self._open:
            self._ended = True
            self._exchange.end_by(Ending.CEILING_REACHED)

    def _event_end(self, chunk: bytes) -> int:
        """Where the open event ends in the next chunk, or the chunk's length."""
        seam = bytes(self._open[-_SEAM_BYTES:])
        found = _BLANK_LINE.search(seam + chunk)
        return len(chunk) if found is None else max(0, found.end() - len(seam))

    def _last_event(self) -> bytes | None:
        """The event that ends the stream; None if it cannot be made."""
        if self._created is None:
            return None
        try:
            response = json.loads(_data_of(self._created))["response"]
            number = json.loads(_data_of(self._whole)).get("sequence_number")
            said = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": None}
            ending: dict[str, object] = {"type": "response.incomplete", "response": {**response, **said}}
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            return None
        if type(number) is int:
            ending["sequence_number"] = number + 1
        line_end = _LINE_END.search(self._created)
        end = b"\n" if line_end is None else line_end[0]
        named = any(line.startswith(b"event:") for line in _LINE.findall(self._created))
        name = b"event: response.incomplete" + end if named else b""
        return name + b"data: " + json.dumps(ending, separators=(",", ":")).encode() + end + end

    def _follow(self, chunk: bytes) -> None:
        seam = bytes(self._open[-_SEAM_BYTES:])
        data, start = seam + chunk, len(seam)
        for found in _BLANK_LINE.finditer(data):
            self._open += data[start : found.end()]
            start = found.end()
            event, self._open = bytes(self._open), bytearray()
            if event.find(b"data:") >= 0:  # else a comment
                self._whole = b"" if self._lost else event
                if self._created is None and self._whole.find(b'"response.created"') >= 0:
                    self._created = event
            self._lost = False
        self._open += data[start:]
        if len(self._open) > FURTHEST_BYTES:
            del self._open[:-_SEAM_BYTES]
            self._lost = True


def _data_of(event: bytes) -> bytes:
    """The data of an event. Raises ValueError if it has none."""
    found = [line[5:] for line in _LINE.findall(event) if line.startswith(b"data:")]
    if not found:
        raise ValueError("an event without data")
    return b"\n".join(found)
