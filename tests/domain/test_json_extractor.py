"""The extractor keeps what a decoder finds at the wanted paths, however the document is cut and shaped."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.json_extractor import KEEP_LIMIT_BYTES, JsonExtractor, Wanted

WANTED: Wanted = {b"type": {}, b"usage": {}, b"response": {b"id": {}, b"usage": {}, b"error": {b"code": {}}}}
keys = st.sampled_from(["type", "usage", "response", "id", "error", "code", "other", "", "é"])
texts = st.text(max_size=8) | st.sampled_from(['{"type":"x"}', '"', "\\", '\\"', "}]", "a" * 300, "\u2028"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=5), max_leaves=25)
documents = st.dictionaries(keys, values, max_size=6)


def wanted_part(value: Mapping[str, object], wanted: Wanted) -> dict[str, object]:
    part: dict[str, object] = {}
    for key, inner in wanted.items():
        name = key.decode()
        if name in value:
            found = value[name]
            part[name] = wanted_part(found, inner) if inner and isinstance(found, dict) else found
    return part


def extract(document: bytes, size: int = 1) -> tuple[JsonExtractor, int]:
    """An extractor fed with chunks of `size`, and how many bytes it had when it closed."""
    it = JsonExtractor(WANTED)
    for start in range(0, len(document), size):
        chunk = b"##" + document[start : start + size] + b"##"
        if it.feed(chunk, 2, len(chunk) - 2):
            return it, min(start + size, len(document))
    return it, -1


@given(documents, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 40))
def test_it_keeps_what_a_decoder_says(
    value: dict[str, object], ascii_only: bool, indent: int | None, size: int
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    it, closed_at = extract(document, size)
    assert closed_at == len(document)
    assert it.document(json.loads) == wanted_part(value, WANTED)


@given(values, st.integers(1, 9))
def test_it_closes_with_the_last_bracket(value: object, size: int) -> None:
    document = json.dumps([value]).encode()
    assert extract(document + b' {"type":"late"}', 1)[1] == len(document)
    assert extract(document, size)[1] == len(document)


@given(st.lists(st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", '"type"', "1", " ", "é"]), max_size=60))
def test_garbage_raises_nothing_and_reads_the_same_in_any_pieces(pieces: list[str]) -> None:
    garbage = "".join(pieces).encode()
    byte_by_byte, whole = extract(garbage, 1)[0], extract(garbage, 1000)[0]
    assert byte_by_byte.closed == whole.closed
    assert byte_by_byte.document(json.loads) == whole.document(json.loads)


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_deep_nesting_is_counted_and_not_recursed_into(size: int) -> None:
    document = b'{"other":' + b"[" * 100_000 + b"]" * 100_000 + b',"type":"end"}'
    it, closed_at = extract(document, size)
    assert closed_at == len(document)
    assert it.document(json.loads) == {"type": "end"}


@pytest.mark.parametrize("text", [b"[DONE", b"hello {}", b"12}", b'"{}"', b"null}", b"}"])
def test_what_is_no_object_or_array_never_closes(text: bytes) -> None:
    assert extract(text)[1] == -1


def test_of_a_key_given_twice_the_last_counts() -> None:
    document = b'{"type":"a","response":{"id":"1","usage":{}},"response":{"id":"2"},"type":"b"}'
    assert extract(document)[0].document(json.loads) == json.loads(document)
    assert extract(b'{"response":{"id":"1"},"response":null}')[0].document(json.loads) == {"response": None}


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_a_value_too_long_or_not_to_be_decoded_is_an_empty_object(size: int) -> None:
    document = b'{"type":"%b","usage":{"a":nonsense},"response":{"id":"x"}}' % (b"x" * KEEP_LIMIT_BYTES)
    assert extract(document, size)[0].document(json.loads) == {"type": {}, "usage": {}, "response": {"id": "x"}}


def test_many_escapes_cost_no_more_than_the_string_is_long() -> None:
    document = json.dumps({"other": '\\"' * 200_000, "type": "end"}).encode()
    assert extract(document, 64 * 1024)[0].document(json.loads) == {"type": "end"}
