"""Content codings of requests: every whole body decodes, everything else is refused, and a bomb stays small."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ApiError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from app.gateway.exchange import request_coding as module

LIMIT = 1_000_000


def decode(coding: bytes, body: bytes, max_bytes: int) -> bytes:
    """All steps at once."""
    steps = module.decode(coding, body, max_bytes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: bytes = end.value
            return decoded


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_unsized(data: bytes) -> bytes:
    """As a streaming encoder writes it: without the content's size, with a checksum."""
    encoder = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return encoder.compress(data) + encoder.flush()


Encode = Callable[[bytes], bytes]
CODINGS: list[tuple[bytes, Encode]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b" GZip ", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"zstd", zstd),
    (b"zstd", zstd_unsized),
]
EVERY_CODING = pytest.mark.parametrize(("coding", "encode"), CODINGS)
SEVERAL = [(b"gzip", gzip.compress), (b"zstd", zstd), (b"zstd", zstd_unsized)]


@EVERY_CODING
@given(st.binary() | st.builds(lambda piece, times: piece * times, st.binary(max_size=20), st.integers(0, 20_000)))
def test_what_was_coded_is_decoded(coding: bytes, encode: Encode, data: bytes) -> None:
    assert decode(coding, encode(data), LIMIT) == data


@pytest.mark.parametrize(("coding", "encode"), SEVERAL)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40))
def test_several_members_are_one_body(coding: bytes, encode: Encode, parts: list[bytes]) -> None:
    assert decode(coding, b"".join(encode(part) for part in parts), LIMIT) == b"".join(parts)


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert decode(b"zstd", skippable + zstd(b"x") + skippable, LIMIT) == b"x"


@EVERY_CODING
@given(data=st.binary(min_size=1, max_size=3000), cut=st.integers(1, 10_000))
def test_a_cut_body_is_refused(coding: bytes, encode: Encode, data: bytes, cut: int) -> None:
    body = encode(data)
    with pytest.raises(InvalidRequest):
        decode(coding, body[: -1 - cut % len(body)], LIMIT)


@pytest.mark.parametrize(("coding", "encode"), SEVERAL)
@given(cut=st.integers(1, 10_000))
def test_a_cut_second_member_is_refused(coding: bytes, encode: Encode, cut: int) -> None:
    second = encode(b"second " * 20)
    keep = 1 + cut % (len(second) - 1)
    with pytest.raises(InvalidRequest):
        decode(coding, encode(b"first") + second[:keep], LIMIT)


@EVERY_CODING
@given(st.binary(min_size=1, max_size=100))
def test_whatever_follows_is_refused(coding: bytes, encode: Encode, garbage: bytes) -> None:
    if coding == b"zstd" and garbage[1:4] == b"\x2a\x4d\x18":
        return  # a skippable frame
    with pytest.raises(InvalidRequest):
        decode(coding, encode(b"body") + garbage, LIMIT)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"zstd"])
@given(st.binary())
def test_noise_is_refused_or_decoded(coding: bytes, noise: bytes) -> None:
    try:
        decoded = decode(coding, noise, 1000)
    except (InvalidRequest, PayloadTooLarge):
        return
    assert len(decoded) <= 1000


@EVERY_CODING
def test_the_limit_is_exact(coding: bytes, encode: Encode) -> None:
    assert decode(coding, encode(b"x" * 1000), 1000) == b"x" * 1000
    with pytest.raises(PayloadTooLarge, match="1000 bytes"):
        decode(coding, encode(b"x" * 1001), 1000)


@EVERY_CODING
def test_a_bomb_is_refused_before_it_goes_off(coding: bytes, encode: Encode) -> None:
    """200 MB of zeros; half a megabyte of limit. Beyond the limit one step of input may be decoded, no more."""
    bomb = encode(bytes(200_000_000))
    assert len(bomb) < 220_000
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            decode(coding, bomb, 500_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(("coding", "encode"), SEVERAL)
def test_a_flood_of_empty_members_is_refused_at_once(coding: bytes, encode: Encode) -> None:
    """Twenty bytes a member and nothing decoded: no bound on what comes out would end this."""
    flood = encode(b"") * 100_000
    with pytest.raises(InvalidRequest):
        decode(coding, flood, LIMIT)


@pytest.mark.parametrize("coding", [b"br", b"compress", b"gzip, gzip", b"gzip,identity", b"aes128gcm", b"gzip;q=1"])
def test_other_codings_and_stacks_are_unsupported(coding: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        decode(coding, gzip.compress(b"{}"), LIMIT)


@pytest.mark.parametrize("coding", [b"identity", b"Identity ", b""])
def test_identity_is_as_it_is(coding: bytes) -> None:
    body = b"{}"
    assert decode(coding, body, LIMIT) is body


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"zstd"])
def test_an_empty_body_is_no_coded_one(coding: bytes) -> None:
    with pytest.raises(ApiError):
        decode(coding, b"", LIMIT)


@pytest.mark.parametrize(("coding", "encode"), [(b"gzip", gzip.compress), (b"zstd", zstd)])
def test_much_is_decoded_in_many_steps(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    assert len(list(module.decode(coding, encode(bytes(20_000_000)), 30_000_000))) >= 2
    noise = random.Random(7).randbytes(3_000_000)
    assert len(list(module.decode(coding, encode(noise), 30_000_000))) >= 2
