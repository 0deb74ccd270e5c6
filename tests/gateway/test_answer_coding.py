"""Content codings of answers: whatever httpx2 reads is read, however it is cut, and a bomb stays small."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.exchange import answer_coding
from app.gateway.exchange.answer_coding import AnswerDecoder, DamagedError, UnreadableError, is_plain

Encode = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def members(encode: Encode) -> Encode:
    """Three members or frames in a row."""
    return lambda data: b"".join(encode(part) for part in (data[:7], b"", data[7:]))


def br(data: bytes) -> bytes:
    brotli = pytest.importorskip("brotli")
    coded: bytes = brotli.compress(data)
    return coded


CODINGS: dict[str, tuple[bytes, Encode]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"X-GZip", gzip.compress),
    "several gzip members": (b"gzip", members(gzip.compress)),
    "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "zstd": (b"zstd", zstd),
    "several zstd frames": (b"zstd", members(zstd)),
    "a stack": (b"gzip, zstd", lambda data: zstd(gzip.compress(data))),
    "a stack with identity": (b"identity, gzip", gzip.compress),
    "br": (b"br", br),
}
EVERY_CODING = pytest.mark.parametrize("name", CODINGS)


def decoded(decoder: AnswerDecoder, coded: bytes, size: int) -> bytes:
    return b"".join(decoder.feed(coded[at : at + size]) for at in range(0, len(coded), size))


@EVERY_CODING
@given(
    data=st.binary(max_size=300), size=st.integers(1, 40), rest=st.sampled_from([b"", b"\0" * 9, b"rubbish behind it"])
)
def test_what_was_coded_is_decoded_in_any_pieces(name: str, data: bytes, size: int, rest: bytes) -> None:
    coding, encode = CODINGS[name]
    decoder = AnswerDecoder(coding)
    rest = b"" if name == "br" else rest  # no decoder of br takes more than the stream
    assert decoded(decoder, encode(data) + rest, size) == data
    assert decoder.whole


@EVERY_CODING
@given(cut=st.integers(1, 10_000))
def test_one_that_is_cut_is_not_whole(name: str, cut: int) -> None:
    coding, encode = CODINGS[name]
    data = bytes(range(256)) * 4
    coded = encode(data)
    decoder = AnswerDecoder(coding)
    assert data.startswith(decoder.feed(coded[: -1 - cut % (len(coded) - 1)]))
    assert not decoder.whole or "several" in name  # one that is cut between two members looks whole


@EVERY_CODING
def test_damage_is_told(name: str) -> None:
    CODINGS[name][1](b"")  # skips where the library is not there
    with pytest.raises(DamagedError):
        AnswerDecoder(CODINGS[name][0]).feed(b"\x07 this is no coded answer " * 3)


@EVERY_CODING
def test_a_bomb_is_not_read(name: str) -> None:
    coding, encode = CODINGS[name]
    bomb = encode(bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError):
            AnswerDecoder(coding).feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_window_wider_than_decoders_must_take_is_not_read() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    encoder = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(UnreadableError):
        AnswerDecoder(b"zstd").feed(encoder.compress(b"x" * 1000) + encoder.flush())


def test_a_flood_of_empty_members_is_not_read() -> None:
    with pytest.raises(UnreadableError):
        AnswerDecoder(b"gzip").feed(gzip.compress(b"") * 5_000)


@pytest.mark.parametrize("coding", [b"compress", b"gzip, compress", b"aes128gcm"])
def test_a_coding_that_is_not_read_says_so_when_fed(coding: bytes) -> None:
    with pytest.raises(UnreadableError):
        AnswerDecoder(coding).feed(b"x")


def test_without_its_library_br_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(answer_coding._KINDS, b"br", raising=False)
    with pytest.raises(UnreadableError):
        AnswerDecoder(b"br").feed(b"x")


@pytest.mark.parametrize("coding", [b"", b"identity", b" None ", b"identity,identity"])
def test_these_say_that_nothing_is_coded(coding: bytes) -> None:
    assert is_plain(coding)
