"""A document is whole with its last bracket, is decoded a bounded number of times, and is not held once it is large."""

import json
import re

import pytest

from app.domain.answer.json_document import COLLECT_LIMIT_BYTES, JsonDocument
from app.domain.answer.json_extractor import Wanted

WANTED: Wanted = {b"type": {}}


class CountingLoads:
    """json.loads, and how many bytes it was asked to decode."""

    def __init__(self) -> None:
        self.decoded_bytes = 0

    def __call__(self, data: bytes) -> object:
        self.decoded_bytes += len(data)
        return json.loads(data)


def feed(document: JsonDocument, data: bytes, size: int) -> int:
    """How many bytes it took until look() said whole, or -1."""
    for start in range(0, len(data), size):
        document.add(data, start, min(start + size, len(data)))
        if document.look():
            return min(start + size, len(data))
    return -1


@pytest.mark.parametrize("data", [b'{"type":"a"}', b'{"type":"a","b":[{}, {}]}', b'[{"a":1}]', b' {\n"type":"a"\n}'])
def test_it_is_whole_with_the_byte_that_closes_it(data: bytes) -> None:
    document = JsonDocument(json.loads, WANTED)
    assert feed(document, data + b" \n}{", 1) == len(data)
    assert document.value in (json.loads(data), {"type": "a"}, {})
    assert document.finish()


def test_a_document_full_of_brackets_in_tiny_pieces_is_decoded_once() -> None:
    data = json.dumps({"other": [{}] * 5000, "type": "a"}).encode()
    loads = CountingLoads()
    assert feed(JsonDocument(loads, WANTED), data, 1) == len(data)
    assert loads.decoded_bytes < len(data)


@pytest.mark.parametrize("size", [1000, 65536, 10_000_000])
@pytest.mark.parametrize("over", [0, 1])
def test_beyond_the_limit_nothing_is_decoded_but_what_is_wanted(over: int, size: int) -> None:
    data = b'{"type":"a","x":"%b"}' % (b"x" * (COLLECT_LIMIT_BYTES - 19 + over))
    loads = CountingLoads()
    document = JsonDocument(loads, WANTED)
    assert feed(document, data, size) == len(data) == COLLECT_LIMIT_BYTES + over
    assert isinstance(document.value, dict)
    assert document.value["type"] == "a"
    assert (loads.decoded_bytes < 10) == bool(over)


def test_a_document_without_the_marker_is_not_read() -> None:
    loads = CountingLoads()
    document = JsonDocument(loads, WANTED, re.compile(b'"wanted"'))
    assert feed(document, b'{"type":"a"}', 3) == -1
    assert not document.finish()
    assert not document.unreadable
    assert loads.decoded_bytes == 0


@pytest.mark.parametrize("place", ['{"a":[%s, {}, {}],"b":{}}', '{"a":[{}, {%s: {}}, {}]}', '{"a":[{}, {}], "b":%s}'])
def test_a_marker_is_found_wherever_it_stands(place: str) -> None:
    document = JsonDocument(json.loads, WANTED, re.compile(b'"abcdefghijklmnop"'))
    data = (place % '"abcdefghijklmnop"').encode()
    assert feed(document, data, 1) == len(data)


@pytest.mark.parametrize("text", [rb'"\ud800"', b'"\xff"', b"NaN,"])
def test_what_a_strict_decoder_refuses_is_read_all_the_same(text: bytes) -> None:
    orjson = pytest.importorskip("orjson")
    document = JsonDocument(orjson.loads, WANTED)
    data = b'{"x":%b,"type":"a"}' % text
    assert feed(document, data, 1000) == len(data)
    assert document.value == {"type": "a"}


@pytest.mark.parametrize("data", [b'{"type":"a"', b"nonsense", b'"open'])
def test_what_never_closes_is_unreadable(data: bytes) -> None:
    document = JsonDocument(json.loads, WANTED)
    document.add(data, 0, len(data))
    assert not document.look()
    assert not document.finish()
    assert document.unreadable


def test_nothing_is_no_document_and_no_fault() -> None:
    document = JsonDocument(json.loads, WANTED)
    document.add(b" \r\n", 0, 3)
    assert not document.finish()
    assert not document.unreadable


def test_a_scalar_is_whole_at_the_end_only() -> None:
    document = JsonDocument(json.loads, WANTED)
    document.add(b"12", 0, 2)
    assert not document.look()
    assert document.finish()
    assert document.value == 12
