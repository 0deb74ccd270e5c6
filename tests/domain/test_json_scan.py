"""JsonScan against the standard library's parser: the same bytes pass, the same values are found, in small steps."""

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.request import json_scan
from app.domain.request.json_scan import MAX_CONTAINERS, MAX_DEPTH, MAX_KEYS, JsonFault, JsonScan

WANTED = frozenset({"model", "stream"})
TEXTS = st.text(max_size=8) | st.sampled_from(["model", "stream", 'say "hi"\n\\', "\U0001f44b", "\ud83d cut"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)
SPACES = st.sampled_from(["", " ", "\n  ", "\t\r\n", " " * 300])


def scanned(body: bytes) -> dict[str, object]:
    steps = JsonScan(body, WANTED).steps()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: dict[str, object] = end.value
            return found


def parsed(body: bytes) -> dict[str, object] | None:
    """What the standard library finds of the wanted keys; None where the body must be refused."""
    pairs: list[tuple[str, object]] = []

    def hook(found: list[tuple[str, object]]) -> dict[str, object]:
        pairs[:] = found
        return dict(found)

    def no_constant(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=hook, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or len(pairs) != len(value):
        return None
    return {key: value[key] for key in WANTED if key in value}


def agree(body: bytes) -> None:
    expected = parsed(body)
    if expected is None:
        with pytest.raises(JsonFault):
            scanned(body)
    else:
        assert scanned(body) == expected


@pytest.fixture
def tiny_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every string and run of white space is cut into slices, and every step is short."""
    monkeypatch.setattr(json_scan, "_SLICE_BYTES", 8)
    monkeypatch.setattr(json_scan, "_STEP", 3)


@given(OBJECTS, st.booleans(), SPACES, SPACES)
def test_what_the_library_reads_is_found(value: dict[str, object], ascii_only: bool, space: str, other: str) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(f"{space},{other}", f"{other}:{space}"))
    agree(f"{space}{text}{other}".encode("utf-8", "replace"))
    agree(json.dumps(value, indent=3).encode())


@given(OBJECTS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_what_the_library_refuses_is_refused(value: dict[str, object], chance: random.Random, cuts: int) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(cuts):
        at = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                del body[at : at + chance.randrange(1, 3)]
            case 1:
                body[at:at] = chance.choice(
                    [b",", b'"', b"{", b"}", b"[", b"]", b":", b"\\", b"1", b" ", b"\xff", b"\n"]
                )
            case 2:
                body[at] = chance.choice(b'{}[],:"\\ 0-.eEtfn\x00\x1f\x7f\xc3')
            case _:
                body = bytearray(bytes(body[:at]) + bytes(body[at // 2 :]))
        if not body:
            break
    agree(bytes(body))


@given(st.binary(max_size=30) | st.text(st.sampled_from('{}[]",: \\u12emodlntrue0.-\n'), max_size=30).map(str.encode))
def test_noise_is_judged_as_the_library_judges_it(body: bytes) -> None:
    agree(body)


ODD = [
    b"", b" ", b"{", b"{}", b" {} ", b"{}x", b"{} {}", b"[]", b"[{}]", b'"}"', b"{},", b"{,}", b'{"a":1,}',
    b'{"a":[1,]}',
    b'{"a":[,1]}', b'{"a"}', b'{"a":}', b'{"a" 1}', b'{"a":1 "b":2}', b'{"a":[1 2]}', b'{"a":{]}',
    b'{"a":[}}', b'{"a":[1}]',
    b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}', b'{"a":1e+5}',
    b'{"a":-0.0E-1}', b'{"a":nul}',
    b'{"a":truefalse}', b'{"a":NaN}', b'{"a":"\t"}', b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":"\\',
    b'{"a":"\\"', b"{1:2}",
    b"{'a':1}", b'{"a":/**/1}', b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc3',
    rb'{"model":"a","mod\u0065l":"b"}', rb'{"\ud800":1,"\uD800":2}', b'{"a":{"x":1,"x":2},"model":"m"}', b'{"":1,"":2}',
    b'{"a":{' + b" " * 300 + b"}}", b'{"a":[' + b" " * 300 + b"]}", b'{"a":"' + b"\\n" * 5000 + b'","model":"m"}',
    b'{"' + b"k" * 3000 + b'":1,"model":"m"}', b'{"model":' + b" " * 5000 + b'"m"' + b" " * 5000 + b"}" + b" " * 5000,
    b'{"model":{"a":[1,{"b":2}]},"stream":[[],{}]}', b'{"a":[{"b":[1,2,{"c":"d"}],"e":null},3],"stream":true}',
]  # fmt: skip


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_odd_bodies(body: bytes) -> None:
    agree(body)


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_odd_bodies_in_slices(body: bytes) -> None:
    agree(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "too deeply"),
        (b'{"a":[' + b"[0]," * MAX_CONTAINERS + b"1]}", "objects and arrays"),
        (b"{" + b",".join(b'"%d":1' % number for number in range(MAX_KEYS + 1)) + b"}", "keys"),
        (b'{"a":' + b"9" * 5000 + b"}", "expected"),
        (b'{"' + b"\\n" * 70_000 + b'":1}', "too long"),
        (b'{"model":1,"model":2}', "twice"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(JsonFault, match=why):
        scanned(body)


def test_of_a_long_value_the_head_is_kept() -> None:
    found = scanned(b'{"stream":[' + b"[0]," * 20_000 + b'1],"model":"' + b"\\n" * 70_000 + b'"}')
    assert found == {"stream": 0, "model": "\n" * 2047}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"[0]," * 50_000 + b"1]}",
        b'{"a":[' + b"1," * 300_000 + b"1]}",
        b'{"a":[' + b"{}," * 200_000 + b"1]}",
        b'{"a":"' + b"\\n" * 500_000 + b'"}',
        b'{"a":"' + b"x" * 2_000_000 + b'"}',
        b'{"a":' + b" " * 2_000_000 + b"1}",
    ],
)
def test_no_step_is_long(body: bytes) -> None:
    """By the bytes that a step passes, since a clock would measure the neighbours."""
    scan = JsonScan(body, WANTED)

    def moves() -> Iterator[int]:
        before = 0
        for _ in scan.steps():
            yield scan._at - before
            before = scan._at

    assert max(moves()) <= 2 * 128 * 1024 + 1024
