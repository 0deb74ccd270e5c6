"""The law of the upstream key: any cut, any coding, any escape, and no client gets eight characters of it."""

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.domain.records import Outcome
from app.gateway.exchange.coded_watch import CodedWatch
from app.gateway.exchange.key_guard import START_CHARACTERS
from tests.gateway.house import COMPLETED, CREATED, DELTA, STREAM_CALL, UPSTREAM_KEY, House

KEY = UPSTREAM_KEY
Decode = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush(zlib.Z_FULL_FLUSH) + encoder.flush()


def in_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 40]) for at in range(0, len(data), 40))


def in_frames(data: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(data[at : at + 40]) for at in range(0, len(data), 40))


def decode_members(data: bytes) -> bytes:
    """As far as it goes: an answer that was broken off is cut."""
    text = b""
    while data:
        member = zlib.decompressobj(31)
        text += member.decompress(data)
        data = member.unused_data
    return text


def decode_frames(data: bytes) -> bytes:
    text = b""
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        text += frame.decompress(data)
        data = frame.unused_data
    return text


CODINGS: dict[bytes, tuple[Callable[[bytes], bytes], Decode]] = {
    b"identity": (bytes, bytes),
    b"gzip": (in_members, decode_members),
    b"x-gzip": (gzip.compress, decode_members),
    b"deflate": (zlib.compress, lambda data: zlib.decompressobj().decompress(data)),
    b"Deflate": (raw_deflate, lambda data: zlib.decompressobj(-15).decompress(data)),
    b"zstd": (in_frames, decode_frames),
    b"gzip, zstd": (lambda data: in_frames(in_members(data)), lambda data: decode_members(decode_frames(data))),
}


def escaped(character: str) -> st.SearchStrategy[str]:
    code = ord(character)
    return st.sampled_from([character, character, f"\\u{code:04x}", f"\\u{code:04X}"])


def unescaped(text: str) -> str:
    for code in range(0x20, 0x7F):
        for form in (f"\\u{code:04x}", f"\\u{code:04X}"):
            text = text.replace(form, chr(code))
    return text


@pytest.mark.parametrize("coding", CODINGS)
@given(spelled=st.tuples(*map(escaped, KEY)).map("".join), places=st.lists(st.integers(1, 100_000), max_size=20))
def test_no_client_gets_eight_characters_of_the_key(coding: bytes, spelled: str, places: list[int]) -> None:
    house = House(at_once=True)
    visit = house.visit(STREAM_CALL)
    visit.upstream.stream_head((b"content-encoding", coding))
    encode, decode = CODINGS[coding]
    body = encode(CREATED + DELTA.replace(b"hello", b"hello " + spelled.encode()) + COMPLETED)
    cuts = sorted({place % len(body) for place in places} - {0})
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        if not visit.upstream.cancelled.is_set():
            visit.upstream.data(body[start:stop])
    assert visit.upstream.cancelled.is_set()
    assert visit.client.ending == "abort"
    passed = unescaped(decode(visit.client.received).decode())
    assert KEY[:START_CHARACTERS] not in passed
    assert (visit.record.outcome, visit.record.http_status) == (Outcome.TRUNCATED, 200)


@pytest.mark.parametrize("coding", CODINGS)
@given(length=st.integers(0, len(KEY) - 1), places=st.lists(st.integers(1, 100_000), max_size=20))
def test_what_only_begins_the_key_passes_byte_for_byte(coding: bytes, length: int, places: list[int]) -> None:
    house = House(at_once=True)
    visit = house.visit(STREAM_CALL)
    visit.upstream.stream_head((b"content-encoding", coding))
    encode, _ = CODINGS[coding]
    begun = KEY[:length].encode()
    body = encode(CREATED + DELTA.replace(b"hello", begun) + COMPLETED + b": " + begun)
    cuts = sorted({place % len(body) for place in places} - {0})
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        visit.upstream.data(body[start:stop])
    visit.upstream.end()
    assert visit.client.received == body
    assert visit.client.ending == "finish"
    assert visit.record.outcome is Outcome.COMPLETED


def test_what_is_decoded_behind_the_terminal_event_is_not_kept() -> None:
    house = House(at_once=True)
    visit = house.visit(STREAM_CALL)
    visit.upstream.stream_head((b"content-encoding", b"gzip"))
    visit.upstream.data(gzip.compress(CREATED + COMPLETED))
    watch = visit.exchange.meter.watch
    assert isinstance(watch, CodedWatch)
    for _ in range(3):
        visit.upstream.data(gzip.compress(b": x" * 10_000 + b"\n\n"))
        assert len(watch.take_text()) == 30_002
        visit.upstream.data(gzip.compress(b": y\n\n"))
    assert watch.take_text() == b": y\n\n"
