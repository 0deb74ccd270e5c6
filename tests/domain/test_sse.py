"""Lines and events as bytes: any mixture of line ends, cut anywhere, gives the same data."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.sse import DataLines, event_start

PIECES = [
    "data:",
    "data: ",
    "dat",
    "data",
    "a",
    ":",
    "event: x",
    " {}",
    "é",
    "\u2028",
    "\x85",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
]
streams = st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode())
cuts = st.lists(st.integers(0, 200), max_size=8)
LINE_END = re.compile(rb"\r\n|\r|\n")


def naive_data(stream: bytes) -> tuple[bytes, bool]:
    """The first event's data, each line with its end, as one line feed; and whether a blank line ended the event."""
    data = b""
    for line, after in zip(LINE_END.split(stream), [*LINE_END.findall(stream), b""], strict=True):
        if not line and after:
            return data, True
        if line.startswith(b"data:"):
            data += line[5:] + (b"\n" if after else b"")
    return data, False


def walk(stream: bytes, cut_at: list[int]) -> tuple[bytes, bool]:
    lines = DataLines()
    data = b""
    places = sorted({0, len(stream), *(place for place in cut_at if place < len(stream))})
    for start, stop in pairwise(places):
        chunk = stream[start:stop]
        data += b"".join(chunk[a:b] for a, b in lines.feed(chunk, 0)).replace(b"\r", b"\n")
        if lines.end >= 0:
            return data, True
    return data, False


@given(streams, cuts)
def test_any_chunking_gives_the_data_of_the_first_event(stream: bytes, cut_at: list[int]) -> None:
    assert walk(stream, cut_at) == naive_data(stream)


@given(streams)
def test_byte_by_byte_is_a_chunking_too(stream: bytes) -> None:
    assert walk(stream, list(range(len(stream)))) == naive_data(stream)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\n\r"])
def test_the_end_is_just_after_the_blank_line(end: bytes) -> None:
    lines = DataLines()
    assert lines.feed(b"xxdata: 1" + end + b"data: 2", 2) == [(7, 10)]
    assert lines.end == len(b"xxdata: 1" + end)


def test_a_line_of_megabytes_is_one_span() -> None:
    assert DataLines().feed(b"data:" + b"A" * 3_000_000, 0) == [(5, 3_000_005)]


@given(streams, st.integers(0, 60))
def test_the_event_start_follows_the_last_blank_line(stream: bytes, high: int) -> None:
    high = min(high, len(stream))
    start = event_start(stream, 0, high)
    blank_lines = [found.end() for found in re.finditer(rb"(?=(\n\n|\n\r|\r\r))", stream[:high])]
    assert start == (blank_lines[-1] + 2 if blank_lines else 0)


def test_a_crlf_is_one_line_end_and_no_blank_line() -> None:
    stream = b"data: 1\r\ndata: 2\r\n\r\ndata: 3\r\n"
    assert event_start(stream, 0, 17) == 0
    assert stream[event_start(stream, 0, len(stream)) :].lstrip(b"\n") == b"data: 3\r\n"
