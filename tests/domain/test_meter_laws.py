"""Laws of the meter: any stream in any chunks reads as a naive parser reads the whole."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.meter import AnswerReading, BodyMeter, StreamMeter
from app.domain.money.estimate import BYTES_PER_TOKEN

Json = dict[str, object]
BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(rb"\r\n|\r|\n")
STATUSES = ["completed", "incomplete", "failed", "cancelled"]

counts = st.none() | st.integers(0, 10**9)
usages = st.none() | st.fixed_dictionaries({"input_tokens": counts, "output_tokens": counts, "total_tokens": counts})
errors = st.none() | st.fixed_dictionaries({"code": st.sampled_from([None, "server_error", 502]), "message": st.text()})
ids = st.sampled_from(["resp_1", "resp_2"])
TERMINAL = {
    "type": "response.completed",
    "response": {"id": "decoy", "status": "completed", "usage": {"input_tokens": 1}},
}
texts = st.text(max_size=20) | st.sampled_from(
    [json.dumps(TERMINAL), f"\n\ndata: {json.dumps(TERMINAL)}\n\n", "}", "\\", '"', "\u2028\u0085", "data: [DONE]"]
)


def event(kind: st.SearchStrategy[str], **rest: st.SearchStrategy[object]) -> st.SearchStrategy[Json]:
    required: dict[str, st.SearchStrategy[object]] = {"type": kind}
    return st.fixed_dictionaries(required, optional=rest)


def response(status: st.SearchStrategy[str], usage: st.SearchStrategy[object]) -> st.SearchStrategy[Json]:
    """A response object: status and usage always, the rest sometimes, keys in any order."""
    optional = {"id": ids, "model": ids, "error": errors, "output": st.lists(texts, max_size=2)}
    whole = st.fixed_dictionaries({"status": status, "usage": usage}, optional=optional)
    return whole.flatmap(lambda value: st.permutations(list(value.items())).map(dict))


noise = st.one_of(
    event(st.just("response.output_text.delta"), delta=texts, logprobs=st.just([])),
    event(st.just("response.output_item.done"), item=st.just(TERMINAL) | st.just({"error": {"code": "inner"}})),
    event(st.just("response.created"), response=response(st.just("in_progress"), usages)),
    event(st.just("response.in_progress"), response=response(st.just("in_progress"), st.none())),
    event(st.just("response.new_thing"), thing=texts, error=errors),
)
faults = st.one_of(
    event(st.just("error"), error=errors, code=st.sampled_from(["flat", None])),
    event(st.just("response.error"), error=errors),
    st.fixed_dictionaries({"object": st.just("chat.completion.chunk"), "error": errors}),
)
types = st.sampled_from(["response.completed", "response.incomplete", "response.failed", "response.done"])
ends = st.one_of(
    st.fixed_dictionaries({"type": types, "response": response(st.sampled_from([*STATUSES, "in_progress"]), usages)}),
    event(types),
    st.fixed_dictionaries({"response": response(st.sampled_from(STATUSES), usages), "type": st.just("response.odd")}),
)
payloads = st.one_of(noise, faults, ends)


@st.composite
def blocks(draw: st.DrawFn) -> list[str]:
    """The lines of one event, or of something that is none."""
    other = st.sampled_from([[": comment"], ["retry: 5"], ["event: ping"], ["data: [DONE]"], ["garbage"], ["data"]])
    broken = payloads.map(lambda p: [f"data: {json.dumps(p)[:-1]}"])
    if draw(st.sampled_from([False, False, False, True])):
        return draw(other | broken)
    payload = draw(payloads)
    indent, ascii_only = draw(st.sampled_from([None, None, 1])), draw(st.booleans())
    lines = json.dumps(payload, indent=indent, ensure_ascii=ascii_only).split("\n")
    lines = [draw(st.sampled_from(["data: ", "data:"])) + line for line in lines]
    before = draw(st.lists(st.sampled_from([": c", "id: 7", "event: response.completed", "event: error"]), max_size=2))
    return [*before, *lines]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of any dialect and framing, whole or cut off."""
    line_ends = st.sampled_from(draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"]])))
    text = ""
    for block in draw(st.lists(blocks(), min_size=1, max_size=6)):
        text += "".join(line + draw(line_ends) for line in block)
        blank = draw(line_ends)
        text += "\r\n" if blank == "\n" and text.endswith("\r") else blank  # CR, LF would be one line end, not two
    stream = draw(st.sampled_from([b"", b"", BOM])) + text.encode()
    return stream[: len(stream) - draw(st.sampled_from([0, 0, 0, 1, 2, 3, 40]))]


def naive_events(stream: bytes) -> Iterator[tuple[object, int]]:
    """Every event that decodes, with where its data ended; all in memory, a line at a time."""
    data: list[bytes] = []
    position = data_end = len(BOM) if stream.startswith(BOM) else 0
    stops = [(found.start(), found.end()) for found in LINE_END.finditer(stream, position)]
    for stop, after in [*stops, (len(stream), len(stream)), (len(stream), len(stream))]:
        line = stream[position:stop]
        if line.startswith(b"data:"):
            data.append(line[5:])
            data_end = stop
        if not line and data:
            with suppress(ValueError):
                yield json.loads(b"\n".join(data)), data_end
            data = []
        position = after


def naive_reading(stream: bytes) -> tuple[AnswerReading, list[int]]:
    reading = AnswerReading()
    for value, data_end in naive_events(stream):
        if reading.note_event(value):
            return reading, [data_end]
    return reading, []


def chunks_of(stream: bytes, cut_at: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cut_at)})
    return [stream[start:stop] for start, stop in pairwise(places)]


def feed(meter: StreamMeter | BodyMeter, chunks: list[bytes]) -> list[int]:
    """Where the chunks ended for which the meter said True."""
    position, said = 0, []
    for chunk in chunks:
        position += len(chunk)
        said += [position] * meter.feed(chunk)
    return said + [-1] * meter.end()


@given(streams(), st.lists(st.integers(0, 10**6), max_size=12))
def test_any_chunking_reads_as_a_naive_parser_reads_the_whole(stream: bytes, cut_at: list[int]) -> None:
    chunks = chunks_of(stream, cut_at)
    meter = StreamMeter(orjson.loads)
    said = feed(meter, chunks)
    expected, closed = naive_reading(stream)
    assert meter.reading == expected
    ends = [sum(map(len, chunks[: i + 1])) for i in range(len(chunks))]
    assert said == [next(end for end in ends if end >= place) for place in closed]


@given(streams())
def test_byte_by_byte_it_speaks_with_the_last_byte_of_the_data(stream: bytes) -> None:
    meter = StreamMeter()
    said = feed(meter, chunks_of(stream, range(len(stream))))
    assert (meter.reading, said) == naive_reading(stream)


TOKENS = b'{ } [ ] " \\ , : 1 null "response" "error" "type" "status" "completed" "usage" "id"'.split(b" ")
SNIPPETS = [b"data:", b"\n", b"\r", b"\n\n", b"event: x\n", json.dumps(TERMINAL).encode(), b'data:{"response":{', BOM]
pieces = st.sampled_from([*TOKENS, *SNIPPETS, b'"type":"response.done"', b'\\"', b"\xc2\x85"]) | st.binary(max_size=9)


@given(st.lists(pieces, max_size=60).map(b"".join), st.lists(st.integers(0, 10**6), max_size=12))
def test_garbage_raises_nothing_and_reads_the_same_in_any_chunks(garbage: bytes, cut_at: list[int]) -> None:
    for kind in (StreamMeter, BodyMeter):
        cut, whole, single = kind(orjson.loads), kind(orjson.loads), kind(orjson.loads)
        said = [len(feed(m, chunks_of(garbage, at))) for m, at in ((cut, cut_at), (whole, []), (single, range(999)))]
        assert said[0] == said[1] == said[2] <= 1
        assert cut.reading == whole.reading == single.reading


texts = st.text(max_size=40) | st.sampled_from(["response", "response.error", "error", "response.completed"])


@given(st.lists(texts, min_size=1, max_size=8), st.data())
def test_the_text_of_deltas_is_seen_however_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    """Exactly, when each comes by itself; of those that come together the first stands for all."""
    events = [b'data: {"type":"x.delta","delta":%s}\n\n' % json.dumps(text).encode() for text in texts]
    body = b"".join(events)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=len(body))))
    meter = StreamMeter()
    for start, stop in pairwise((0, *cuts, len(body))):
        meter.feed(body[start:stop])
    assert meter.reading.output_bytes >= len(texts) * (BYTES_PER_TOKEN - 1)
    one_by_one = StreamMeter()
    for event in events:
        one_by_one.feed(event)
    assert one_by_one.reading.output_bytes == sum(max(len(json.dumps(text)) - 2, BYTES_PER_TOKEN) for text in texts)
