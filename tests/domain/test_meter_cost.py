"""What the meter costs: bytes looked at are counted, not timed; memory is measured; large events are not held."""

import json
import re
import sys
import tracemalloc
from collections.abc import Iterator

import orjson
import pytest

from app.domain.answer import meter, sse
from app.domain.answer.meter import AnswerReading, BodyMeter, StreamMeter
from app.domain.answer.usage import Usage


class CountedBytes(bytes):
    """Counts how many bytes find() and rfind() look at."""

    scanned = 0

    def find(self, sub: bytes, start: int = 0, stop: int | None = None) -> int:  # type: ignore[override]
        stop = len(self) if stop is None else stop
        found = super().find(sub, start, stop)
        CountedBytes.scanned += (found if found >= 0 else stop) - start
        return found

    def rfind(self, sub: bytes, start: int = 0, stop: int | None = None) -> int:  # type: ignore[override]
        stop = len(self) if stop is None else stop
        found = super().rfind(sub, start, stop)
        CountedBytes.scanned += stop - max(found, start)
        return found


class CountedPattern:
    """Counts how many bytes search() looks at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern, self.scanned = pattern, 0

    def search(self, data: bytes, start: int = 0, stop: int = sys.maxsize) -> re.Match[bytes] | None:
        found = self.pattern.search(data, start, stop)
        self.scanned += (found.end() if found else min(stop, len(data))) - start
        return found


class CountedLoads:
    """json.loads, and how many bytes it was asked to decode."""

    decoded = 0

    def __call__(self, data: bytes) -> object:
        self.decoded += len(data)
        return json.loads(data)


CREATED = '{"type":"response.created","response":{"id":"r","status":"in_progress"}}'
HOSTILE = {
    "LF, all candidates": f"data: {CREATED}\n\n",
    "CR, all candidates": f"data: {CREATED}\r\r",
    "CRLF, all candidates": f"event: x\r\ndata: {CREATED}\r\n\r\n",
    "many lines an event": "data: {\rdata: }\rid: 1\r" * 20 + "\r",
    "one event without end": "data: {}\rdata: [\r",
    "braces that close nothing": 'data: {"response":{}}}}}}}}}}\n',
    "one line without end": '{"response":{}},',
    "no candidates": 'data: {"type":"response.output_text.delta","delta":"x"}\n\n',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [100, 4096, 10**9])
def test_no_byte_is_looked_at_more_than_a_few_times(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, line_end, loads = CountedPattern(meter.CANDIDATE), CountedPattern(sse.LINE_END), CountedLoads()
    monkeypatch.setattr(meter, "CANDIDATE", candidate)
    monkeypatch.setattr(sse, "LINE_END", line_end)
    monkeypatch.setattr(CountedBytes, "scanned", 0)
    stream = HOSTILE[name].encode() * (200_000 // len(HOSTILE[name]))
    stream_meter = StreamMeter(loads)
    stream_meter.feed(b": start\n\n")
    for start in range(0, len(stream), size):
        stream_meter.feed(CountedBytes(stream[start : start + size]))
    looked_at = candidate.scanned + line_end.scanned + CountedBytes.scanned + loads.decoded
    assert len(stream) / 2 < looked_at < 12 * len(stream)


def test_a_long_lifecycle_event_is_decoded_once_only() -> None:
    loads = CountedLoads()
    it = StreamMeter(loads)
    created = {"status": "in_progress", "id": "r", "model": "m", "error": None, "tools": ["x" * 50_000]}
    for kind in ("response.created", "response.in_progress", "response.queued"):
        it.feed(f"data: {json.dumps({'type': kind, 'response': created})}\n\n".encode())
    assert 50_000 < loads.decoded < 51_000


HEAD = '{"type":"%s","response":{"id":"r",%s"model":"m","output":[{"result":"'
TAIL = '"}],"usage":{"input_tokens":5,"output_tokens":2,"total_tokens":7}}%s}'
STATUS = '"status":"completed",'
BODY_HEAD = '{"id":"r","status":"completed","model":"m","output":[{"result":"'
BODY_TAIL = '"}],"usage":{"input_tokens":5,"output_tokens":2,"total_tokens":7}}'
WEIGHED = AnswerReading("completed", Usage(input_tokens=5, output_tokens=2, total_tokens=7), "r", "m")


def huge(head: str, fill: str, tail: str) -> Iterator[bytes]:
    """20 MB in chunks of 64 KB, made as they are taken."""
    yield head.encode()
    chunk = (fill * (65_536 // len(fill))).encode()
    for _ in range(20_000_000 // len(chunk)):
        yield bytes(bytearray(chunk))
    yield tail.encode()


def weigh(weigher: StreamMeter | BodyMeter, chunks: Iterator[bytes]) -> tuple[list[bool], int]:
    """What the meter said to each chunk, and the most memory that was in use."""
    tracemalloc.start()
    try:
        return [weigher.feed(chunk) for chunk in chunks], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        (HEAD % ("response.completed", STATUS), TAIL % "", WEIGHED),
        (HEAD % ("response.completed", ""), TAIL % "", WEIGHED),
        (HEAD % ("", ""), TAIL % ',"type":"response.done"', WEIGHED),
        ('{"type":"response.output_item.done","item":{"result":"', '"}}', AnswerReading()),
    ],
)
@pytest.mark.parametrize("fill", ["QUJD", 'he said \\"yes\\\\\\", '])
def test_an_event_of_20_megabytes_is_weighed_in_2(head: str, tail: str, fill: str, expected: AnswerReading) -> None:
    it = StreamMeter(orjson.loads)
    said, peak_bytes = weigh(it, huge("data: " + head, fill, tail + "\n\n"))
    assert it.reading == expected
    assert said == [False] * (len(said) - 1) + [expected == WEIGHED]
    assert peak_bytes < 2_000_000
    assert it.errors == 0


def test_a_body_of_20_megabytes_is_weighed_in_2() -> None:
    it = BodyMeter(orjson.loads)
    said, peak_bytes = weigh(it, huge(BODY_HEAD, "QUJD", BODY_TAIL))
    assert (it.reading, said[-1], sum(said)) == (WEIGHED, True, 1)
    assert peak_bytes < 2_000_000


def test_the_bytes_after_a_huge_event_are_read_again() -> None:
    it = StreamMeter()
    for chunk in huge('data: {"item":"', "QUJD", '"}\r'):
        assert not it.feed(chunk)
    assert not it.feed(b"\n")
    assert it.feed(b'\r\ndata: {"type":"response.completed"}')
    assert it.reading.status == "completed"


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_deep_nesting_hides_nothing_and_breaks_nothing(size: int) -> None:
    nested = "[" * 100_000 + "]" * 100_000
    stream = f'data: {{"type":"response.completed","response":{{"output":{nested},"id":"r"}}}}\n\n'.encode()
    it = StreamMeter()
    assert sum(it.feed(stream[start : start + size]) for start in range(0, len(stream), size)) == 1
    assert it.reading == AnswerReading("completed", response_id="r")
